//! Storing objects: from a body, or from another object. The commit is the last step, after every check.

use super::answer::{self, Body};
use super::{Admitted, Door, object};
use crate::attributes;
use crate::body::{BodyReader, Declared};
use crate::checksum::{Algorithm, Checksum};
use crate::conditions::{self, Outcome, ReadConditions};
use crate::date;
use crate::error::{DoorError, DoorResult, ErrorCode};
use crate::head::{bucket_name, object_key};
use crate::limits::BODY_PIECE_LEN_BYTES_MAX;
use crate::percent::{self, Plus};
use crate::store::PutRequest;
use crate::xml::XmlWriter;
use futures::StreamExt as _;
use http::header::{self, HeaderName};
use http::{Response, StatusCode};
use strongroom_erasure::md5::Md5;
use strongroom_types::limits::OBJECT_LEN_BYTES_MAX;
use strongroom_types::{Attributes, BucketName, ETag, ObjectKey};

impl Door {
    pub(super) async fn put_object(
        &self,
        request: Admitted<'_>,
        bucket: BucketName,
        key: ObjectKey,
    ) -> DoorResult<Response<Body>> {
        let Admitted { head, authenticated, incoming } = request;
        let mut attributes = attributes::read(head)?;
        let condition = conditions::of_write(head)?;
        let declared = Declared::new(head, authenticated.payload)?;
        if declared.len_bytes.is_none() && !head.headers.contains_key(header::TRANSFER_ENCODING) {
            return Err(DoorError::new(
                ErrorCode::MissingContentLength,
                "You must provide the Content-Length HTTP header.",
            ));
        }
        let len_bytes = declared.len_bytes;
        let mut reader =
            BodyReader::new(incoming, &self.tags, declared, authenticated.chunks, OBJECT_LEN_BYTES_MAX)?;
        let mut session = self.store().put(PutRequest { bucket, key, len_bytes, condition }).await?;
        while let Some(piece) = reader.next().await? {
            session.write(piece).await?;
        }
        let verified = reader.verified().expect("the reader ends only after it verified").clone();
        if let Some((algorithm, value)) = &verified.checksum {
            attributes.checksums.push((algorithm.name().to_owned(), value.clone()));
        }
        let info = session.commit(ETag::new(&verified.md5_hex), attributes).await?;
        assert_eq!(
            info.len_bytes, verified.len_bytes,
            "the store committed what was verified, no more and no less"
        );

        let mut response = answer::empty(StatusCode::OK);
        let headers = response.headers_mut();
        answer::set(headers, header::ETAG, &format!("\"{}\"", info.etag.as_str()));
        object::version(&info, headers);
        if let Some((algorithm, value)) = &verified.checksum {
            answer::set(headers, HeaderName::from_static(algorithm.header()), value);
            answer::set(headers, HeaderName::from_static("x-amz-checksum-type"), "FULL_OBJECT");
        }
        Ok(response)
    }

    pub(super) async fn copy_object(
        &self,
        request: Admitted<'_>,
        bucket: BucketName,
        key: ObjectKey,
    ) -> DoorResult<Response<Body>> {
        let head = request.head;
        let source = Source::parse(head.header("x-amz-copy-source")?.unwrap_or(""))?;
        let replace = match head.header("x-amz-metadata-directive")? {
            None | Some("COPY") => false,
            Some("REPLACE") => true,
            Some(other) => {
                return Err(DoorError::invalid_argument(
                    "x-amz-metadata-directive",
                    other,
                    "Unknown metadata directive.",
                ));
            }
        };
        let algorithm = match head.header("x-amz-checksum-algorithm")? {
            None => None,
            Some(name) => Some(Algorithm::from_name(name).ok_or_else(|| {
                DoorError::new(ErrorCode::InvalidRequest, "Checksum algorithm provided is unsupported.")
            })?),
        };
        if !replace && source.version.is_none() && source.bucket == bucket && source.key == key {
            return Err(DoorError::new(
                ErrorCode::InvalidRequest,
                "This copy request is illegal because it is trying to copy an object to itself without changing the \
                 object's metadata, storage class, website redirect location or encryption attributes.",
            ));
        }
        let replacement = if replace { Some(attributes::read(head)?) } else { None };
        let condition = conditions::of_write(head)?;

        let reader = self.open(&source.bucket, &source.key, source.version.as_deref()).await?;
        let info = reader.info().clone();
        let conditions = ReadConditions::new(head, "x-amz-copy-source-")?;
        if conditions.evaluate(&info.etag, info.modified) != Outcome::Proceed {
            return Err(conditions::failed("x-amz-copy-source-If-*"));
        }
        let len_bytes = Some(info.len_bytes);
        let mut session = self.store().put(PutRequest { bucket, key, len_bytes, condition }).await?;
        let mut md5 = Md5::default();
        let mut checksum = algorithm.map(|algorithm| (algorithm, Checksum::new(algorithm)));
        let mut copied_bytes: u64 = 0;
        let mut stream = reader.read(0..info.len_bytes);
        while let Some(piece) = stream.next().await {
            let piece = piece?;
            copied_bytes += piece.len() as u64;
            let mut left = piece.clone();
            while !left.is_empty() {
                let part = left.split_to(left.len().min(BODY_PIECE_LEN_BYTES_MAX));
                md5 = self.tags.update(md5, part).await;
            }
            if let Some((_, checksum)) = &mut checksum {
                checksum.update(&piece);
            }
            session.write(piece).await?;
        }
        let md5_hex = percent::hex(&md5.finish());
        // Tags of single PUTs are MD5, so what was copied can be held against what was stored.
        let is_md5 = info.etag.as_str().len() == 32;
        if copied_bytes != info.len_bytes || (is_md5 && info.etag.as_str() != md5_hex) {
            tracing::error!(bucket = %source.bucket, key = %source.key, "source of a copy is not what was stored");
            return Err(DoorError::new(
                ErrorCode::InternalError,
                "The source could not be read as it was stored.",
            ));
        }
        let stored_checksums = info.attributes.checksums.clone();
        let mut attributes: Attributes = replacement.unwrap_or(info.attributes);
        attributes.checksums = match checksum {
            Some((algorithm, checksum)) => vec![(algorithm.name().to_owned(), checksum.finish())],
            None => stored_checksums,
        };
        let checksums = attributes.checksums.clone();
        let copied = session.commit(ETag::new(md5_hex), attributes).await?;

        let mut response = answer::document(XmlWriter::document("CopyObjectResult", |xml| {
            xml.text("LastModified", &date::xml(copied.modified));
            xml.text("ETag", &format!("\"{}\"", copied.etag.as_str()));
            for (name, value) in &checksums {
                if let Some(algorithm) = Algorithm::from_name(name) {
                    xml.text(algorithm.element(), value);
                }
            }
        }));
        let headers = response.headers_mut();
        object::version(&copied, headers);
        if let Some(version) = &source.version {
            answer::set(headers, HeaderName::from_static("x-amz-copy-source-version-id"), version);
        }
        Ok(response)
    }
}

/// Where a copy comes from.
struct Source {
    bucket: BucketName,
    key: ObjectKey,
    version: Option<String>,
}

impl Source {
    /// `[/]bucket/key[?versionId=id]`, percent-encoded.
    fn parse(text: &str) -> DoorResult<Self> {
        let invalid = || {
            DoorError::invalid_argument(
                "x-amz-copy-source",
                text,
                "Copy Source must mention the source bucket and key: sourcebucket/sourcekey",
            )
        };
        let (path, version) = match text.split_once("?versionId=") {
            Some((path, version)) => (path, Some(version.to_owned())),
            None => (text, None),
        };
        let path = percent::decode(path, Plus::Literal).ok_or_else(invalid)?;
        let (bucket, key) = path.strip_prefix('/').unwrap_or(&path).split_once('/').ok_or_else(invalid)?;
        if key.is_empty() {
            return Err(invalid());
        }
        Ok(Self { bucket: bucket_name(bucket)?, key: object_key(key)?, version })
    }
}
