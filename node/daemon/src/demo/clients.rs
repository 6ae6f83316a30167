//! Several S3 clients at once, through the AWS SDK.

use super::DemoError;
use super::objects::{Mails, Stored};
use aws_sdk_s3::Client;
use aws_sdk_s3::error::DisplayErrorContext;
use aws_sdk_s3::primitives::ByteStream;
use futures::stream::{self, StreamExt, TryStreamExt};
use strongroom_tier::{Endpoint, connect};

/// Times that a request is made at most, beyond the SDK's own tries: a killed zone's leaders take a moment to be replaced.
const TRIES_MAX: usize = 10;

/// Is told how far a step is.
pub trait Progress {
    /// One more item, of so many bytes.
    fn item(&self, len_bytes: u64);
    /// The step is through.
    fn end(&self);
}

/// Clients that work side by side.
pub struct Clients {
    client: Client,
    concurrency: usize,
}

impl Clients {
    /// `concurrency` clients of `endpoint`.
    ///
    /// # Errors
    /// The endpoint cannot be used.
    pub fn new(
        endpoint: &str,
        access_key: &str,
        secret_key: &str,
        concurrency: usize,
    ) -> Result<Self, DemoError> {
        let client = connect(&Endpoint {
            url: endpoint.into(),
            region: String::from("us-east-1"),
            access_key: access_key.into(),
            secret_key: secret_key.into(),
            path_style: true,
        })?;
        Ok(Self { client, concurrency })
    }

    /// Makes the bucket where it is not there.
    ///
    /// # Errors
    /// Refused.
    pub async fn create_bucket(&self, bucket: &str) -> Result<(), DemoError> {
        match self.client.create_bucket().bucket(bucket).send().await {
            Ok(_) => Ok(()),
            Err(error)
                if error.as_service_error().is_some_and(|error| error.is_bucket_already_owned_by_you()) =>
            {
                Ok(())
            }
            Err(error) => Err(DemoError::Request {
                what: format!("create bucket {bucket}"),
                reason: DisplayErrorContext(&error).to_string(),
            }),
        }
    }

    /// Stores all of it; what is given back was acknowledged.
    ///
    /// # Errors
    /// A message could not be read, or was not taken in many tries.
    pub async fn store(
        &self,
        bucket: &str,
        mails: Mails,
        progress: &dyn Progress,
    ) -> Result<Vec<Stored>, DemoError> {
        stream::iter(mails)
            .map(|mail| async move {
                let (key, mail) = mail?;
                let stored = Stored::of(key, &mail.bytes);
                let mut last = String::new();
                for _ in 0..TRIES_MAX {
                    let body = ByteStream::from(mail.bytes.clone());
                    match self.client.put_object().bucket(bucket).key(&stored.key).body(body).send().await {
                        Ok(_) => {
                            progress.item(stored.len_bytes);
                            return Ok(stored);
                        }
                        Err(error) => last = DisplayErrorContext(&error).to_string(),
                    }
                }
                Err(DemoError::Request { what: format!("put {}", stored.key), reason: last })
            })
            .buffer_unordered(self.concurrency)
            .try_collect()
            .await
    }

    /// Reads all of it and says what differs.
    pub async fn compare(&self, bucket: &str, stored: &[Stored], progress: &dyn Progress) -> Vec<String> {
        stream::iter(stored)
            .map(|stored| async move {
                let found = self.compare_one(bucket, stored).await;
                progress.item(stored.len_bytes);
                found
            })
            .buffer_unordered(self.concurrency)
            .filter_map(|found| async move { found })
            .collect()
            .await
    }

    async fn compare_one(&self, bucket: &str, stored: &Stored) -> Option<String> {
        let mut last = String::new();
        for _ in 0..TRIES_MAX {
            match self.client.get_object().bucket(bucket).key(&stored.key).send().await {
                Err(error) => last = DisplayErrorContext(&error).to_string(),
                Ok(answer) => match answer.body.collect().await {
                    Err(error) => last = error.to_string(),
                    Ok(body) => {
                        let bytes = body.into_bytes();
                        let differs =
                            || format!("{}: {} bytes came back that differ", stored.key, bytes.len());
                        return (!stored.is(&bytes)).then(differs);
                    }
                },
            }
        }
        Some(format!("{}: could not be read: {last}", stored.key))
    }
}
