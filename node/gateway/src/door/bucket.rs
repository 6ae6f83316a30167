//! Operations on buckets.

use super::answer::{self, Body};
use super::document::Vouched;
use super::{Admitted, Door};
use crate::date;
use crate::error::{DoorError, DoorResult, ErrorCode};
use crate::operation::BucketFact;
use crate::store::StoreError;
use crate::xml::XmlWriter;
use http::{HeaderName, Response, StatusCode, header};
use strongroom_types::limits::BUCKETS_MAX;
use strongroom_types::{BucketClass, BucketName};

/// The header that says what a bucket is for.
const CLASS: HeaderName = HeaderName::from_static("x-strongroom-class");

/// The one owner that everything has here, as S3's XML asks for one.
pub(super) fn owner(xml: &mut XmlWriter) {
    xml.element("Owner", owner_fields);
}

fn owner_fields(xml: &mut XmlWriter) {
    xml.text("ID", "strongroom");
    xml.text("DisplayName", "strongroom");
}

/// What everything is allowed to here: everything, to its owner.
pub(super) fn acl() -> Response<Body> {
    answer::document(XmlWriter::document("AccessControlPolicy", |xml| {
        owner(xml);
        xml.element("AccessControlList", |xml| {
            xml.element("Grant", |xml| {
                xml.raw("<Grantee xmlns:xsi=\"http://www.w3.org/2001/XMLSchema-instance\" xsi:type=\"CanonicalUser\">");
                owner_fields(xml);
                xml.raw("</Grantee>");
                xml.text("Permission", "FULL_CONTROL");
            });
        });
    }))
}

impl Door {
    pub(super) async fn list_buckets(&self, request: Admitted<'_>) -> DoorResult<Response<Body>> {
        let head = request.head;
        let prefix = head.parameter("prefix").unwrap_or("");
        let limit = match head.parameter("max-buckets") {
            None => BUCKETS_MAX,
            Some(text) => {
                text.parse().ok().filter(|limit| (1..=BUCKETS_MAX).contains(limit)).ok_or_else(|| {
                    DoorError::invalid_argument(
                        "max-buckets",
                        text,
                        "Argument max-buckets must be between 1 and 10000",
                    )
                })?
            }
        };
        // Bucket names are no secret from those who may list them: the token is the last name itself.
        let after = head.parameter("continuation-token").unwrap_or("");
        let buckets = self.store().buckets().await?;
        let mut wanted = buckets
            .iter()
            .filter(|bucket| bucket.name.as_str() > after && bucket.name.as_str().starts_with(prefix));
        let page: Vec<_> = wanted.by_ref().take(limit).collect();
        let more = wanted.next().is_some();
        Ok(answer::document(XmlWriter::document("ListAllMyBucketsResult", |xml| {
            owner(xml);
            xml.element("Buckets", |xml| {
                for bucket in &page {
                    xml.element("Bucket", |xml| {
                        xml.text("Name", bucket.name.as_str());
                        xml.text("CreationDate", &date::xml(bucket.created));
                    });
                }
            });
            if !prefix.is_empty() {
                xml.text("Prefix", prefix);
            }
            if let (true, Some(last)) = (more, page.last()) {
                xml.text("ContinuationToken", last.name.as_str());
            }
        })))
    }

    pub(super) async fn create_bucket(
        &self,
        request: Admitted<'_>,
        bucket: BucketName,
    ) -> DoorResult<Response<Body>> {
        let class = match request.head.header(CLASS.as_str())? {
            None => None,
            Some("mail") => Some(BucketClass::Mail),
            Some("config") => Some(BucketClass::Config),
            Some(other) => {
                return Err(DoorError::invalid_argument(
                    CLASS.as_str(),
                    other,
                    "Expected \"mail\" or \"config\".",
                ));
            }
        };
        if let Some(root) = self.read_document(request, Vouched::Any).await? {
            if root.name != "CreateBucketConfiguration" {
                return Err(DoorError::new(ErrorCode::MalformedXML, "Expected a CreateBucketConfiguration."));
            }
            if let Some(other) = root.children.iter().find(|child| child.name != "LocationConstraint") {
                return Err(DoorError::not_implemented(format!("{} of a new bucket", other.name)));
            }
        }
        match self.store().create_bucket(bucket.clone(), class.unwrap_or(BucketClass::Mail)).await {
            // As in us-east-1: making what is already there, alike, is no error. Clients make buckets before each use.
            Ok(_) | Err(StoreError::BucketExists(_)) => {}
            // The client did not ask for a class, and the bucket is its own.
            Err(StoreError::BucketClassDiffers(name)) if class.is_none() => {
                return Err(StoreError::BucketExists(name).into());
            }
            Err(error) => return Err(error.into()),
        }
        let mut response = answer::empty(StatusCode::OK);
        answer::set(response.headers_mut(), header::LOCATION, &format!("/{bucket}"));
        Ok(response)
    }

    pub(super) async fn head_bucket(&self, bucket: &BucketName) -> DoorResult<Response<Body>> {
        let info = self.store().bucket(bucket).await?;
        let mut response = answer::empty(StatusCode::OK);
        let headers = response.headers_mut();
        answer::set(headers, HeaderName::from_static("x-amz-bucket-region"), &self.parts.config.region);
        answer::set(headers, CLASS, &info.class.to_string());
        Ok(response)
    }

    pub(super) async fn delete_bucket(&self, bucket: &BucketName) -> DoorResult<Response<Body>> {
        self.store().delete_bucket(bucket).await?;
        Ok(answer::empty(StatusCode::NO_CONTENT))
    }

    pub(super) async fn bucket_fact(
        &self,
        bucket: &BucketName,
        fact: BucketFact,
    ) -> DoorResult<Response<Body>> {
        let info = self.store().bucket(bucket).await?;
        let text = match fact {
            // us-east-1 is told as nothing, for reasons older than the other regions.
            BucketFact::Location => XmlWriter::document("LocationConstraint", |xml| {
                if self.parts.config.region != "us-east-1" {
                    xml.content(&self.parts.config.region);
                }
            }),
            BucketFact::Versioning => XmlWriter::document("VersioningConfiguration", |xml| {
                if info.class == BucketClass::Config {
                    xml.text("Status", "Enabled");
                }
            }),
            BucketFact::RequestPayment => {
                XmlWriter::document("RequestPaymentConfiguration", |xml| xml.text("Payer", "BucketOwner"))
            }
            BucketFact::Acl => return Ok(acl()),
            BucketFact::Unset(code) => {
                return Err(DoorError::new(code, "This configuration does not exist.")
                    .with("BucketName", bucket.as_str()));
            }
        };
        Ok(answer::document(text))
    }
}
