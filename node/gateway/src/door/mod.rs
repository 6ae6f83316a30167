//! A request in, an answer out, without sockets.

use crate::auth::{Authenticated, Caller, Credentials, authenticate};
use crate::body::Incoming;
use crate::error::{DoorError, DoorResult, ErrorCode};
use crate::head::Head;
use crate::limits::XML_BODIES_MAX;
use crate::operation::Operation;
use crate::store::ObjectStore;
use crate::tags::Tags;
use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, header};
use std::sync::Arc;
use std::time::Duration;
use strongroom_env::{Clock, Rng};
use tokio::sync::Semaphore;

mod answer;
mod bucket;
mod document;
mod list;
mod object;
mod put;
mod remove;

pub use answer::{Body, BodyError};

/// What an operator sets.
#[derive(Clone, Debug)]
pub struct DoorConfig {
    /// The region that clients are told. Signatures may name any.
    pub region: String,
    /// Domains under which `bucket.domain` names a bucket; none for paths only.
    pub domains: Vec<String>,
}

impl Default for DoorConfig {
    fn default() -> Self {
        Self { region: "us-east-1".to_owned(), domains: Vec::new() }
    }
}

/// What became of a request: for metrics and the audit log.
#[derive(Clone, Debug)]
pub struct Record {
    /// The id that the client was told.
    pub request_id: String,
    /// The operation's name in S3's API, where it was understood.
    pub operation: Option<&'static str>,
    /// Who asked, where the signature was right.
    pub caller: Option<Caller>,
    /// The status of the answer.
    pub status: StatusCode,
    /// Why it was refused.
    pub code: Option<ErrorCode>,
    /// From the head to the beginning of the answer.
    pub duration: Duration,
}

/// Is told of every answer.
pub trait Observer: Send + Sync {
    /// A request was answered.
    fn answered(&self, record: &Record);
}

/// What a door is made of.
pub struct DoorParts {
    /// What does the work.
    pub store: Arc<dyn ObjectStore>,
    /// Who may come in.
    pub credentials: Arc<dyn Credentials>,
    /// Is told of every answer.
    pub observer: Option<Arc<dyn Observer>>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Request ids.
    pub rng: Arc<dyn Rng>,
    /// What the operator set.
    pub config: DoorConfig,
}

/// The S3 door.
pub struct Door {
    parts: DoorParts,
    documents: Semaphore,
    tags: Tags,
}

/// One request that was let in.
struct Admitted<'a> {
    head: &'a Head,
    authenticated: Authenticated,
    incoming: &'a mut Incoming,
}

/// What is found out about a request while it is answered.
#[derive(Default)]
struct Progress {
    operation: Option<&'static str>,
    caller: Option<Caller>,
}

impl Door {
    /// A door of these parts.
    pub fn new(parts: DoorParts) -> Self {
        Self { parts, documents: Semaphore::new(XML_BODIES_MAX), tags: Tags::default() }
    }

    /// Answers one request. Every refusal is an answer; nothing is an error of this function.
    ///
    /// Dropping the future drops what it had begun: an object whose commit was not reached does not come to be.
    pub async fn handle<B>(&self, request: Request<B>) -> Response<Body>
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let begun = self.parts.clock.now();
        let request_id = format!("{:016X}", self.parts.rng.u64());
        let (parts, body) = request.into_parts();
        let is_head = parts.method == http::Method::HEAD;
        let waits = parts.headers.contains_key(header::EXPECT);
        let resource = parts.uri.path().to_owned();
        let mut incoming = Incoming::new(body, Arc::clone(&self.parts.clock));
        let mut progress = Progress::default();
        let result = self.answer(parts, &mut incoming, &mut progress).await;

        // A client that is still sending would see a broken connection instead of the answer. One that waits for
        // `100 Continue` and was never told to go on sends nothing.
        let drained = (waits && !incoming.is_started()) || incoming.discard().await;
        let code = result.as_ref().err().map(|error| error.code);
        let mut response = match result {
            Ok(response) => response,
            Err(error) => {
                if error.code.status().is_server_error() && error.code != ErrorCode::NotImplemented {
                    tracing::warn!(request_id, operation = progress.operation, resource, %error, "request failed");
                } else {
                    tracing::debug!(request_id, operation = progress.operation, resource, %error, "request refused");
                }
                answer::error(&error, &resource, &request_id, is_head)
            }
        };
        let now = self.parts.clock.wall();
        let headers = response.headers_mut();
        let text = |text: String| HeaderValue::try_from(text).expect("ids and dates are ASCII");
        headers.insert("x-amz-request-id", text(request_id.clone()));
        headers.insert(header::DATE, text(crate::date::http(now)));
        headers.insert(header::SERVER, HeaderValue::from_static("Strongroom"));
        if !drained {
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        if let Some(observer) = &self.parts.observer {
            observer.answered(&Record {
                request_id,
                operation: progress.operation,
                caller: progress.caller,
                status: response.status(),
                code,
                duration: self.parts.clock.now().since(begun),
            });
        }
        response
    }

    /// Lets the request in, finds the operation and does it.
    async fn answer(
        &self,
        parts: http::request::Parts,
        incoming: &mut Incoming,
        progress: &mut Progress,
    ) -> DoorResult<Response<Body>> {
        let head = Head::new(parts)?;
        let authenticated = authenticate(&head, &*self.parts.credentials, self.parts.clock.wall())?;
        progress.caller = Some(authenticated.caller.clone());
        let target = head.target(&self.parts.config.domains)?;
        let operation = Operation::resolve(&head, target)?;
        progress.operation = Some(operation.name());
        let request = Admitted { head: &head, authenticated, incoming };
        match operation {
            Operation::ListBuckets => self.list_buckets(request).await,
            Operation::CreateBucket(bucket) => self.create_bucket(request, bucket).await,
            Operation::HeadBucket(bucket) => self.head_bucket(&bucket).await,
            Operation::DeleteBucket(bucket) => self.delete_bucket(&bucket).await,
            Operation::GetBucketFact(bucket, fact) => self.bucket_fact(&bucket, fact).await,
            Operation::ListObjects(bucket) => self.list_objects(request, bucket).await,
            Operation::ListObjectsV2(bucket) => self.list_objects_v2(request, bucket).await,
            Operation::DeleteObjects(bucket) => self.delete_objects(request, &bucket).await,
            Operation::GetObject(bucket, key) => self.get_object(request, &bucket, &key).await,
            Operation::HeadObject(bucket, key) => self.head_object(request, &bucket, &key).await,
            Operation::GetObjectAcl(bucket, key) => self.object_acl(request, &bucket, &key).await,
            Operation::PutObject(bucket, key) => self.put_object(request, bucket, key).await,
            Operation::CopyObject(bucket, key) => self.copy_object(request, bucket, key).await,
            Operation::DeleteObject(bucket, key) => self.delete_object(request, &bucket, &key).await,
        }
    }

    /// The work behind the door.
    fn store(&self) -> &dyn ObjectStore {
        &*self.parts.store
    }
}

/// The refusal of work above a bound of the door's own.
fn busy() -> DoorError {
    DoorError::new(ErrorCode::SlowDown, "Please reduce your request rate.")
}

#[cfg(test)]
mod tests;
