//! Which operation a request is: an allow-list. A parameter or header that would change the meaning and is not known here
//! is answered `NotImplemented`; nothing falls through to another operation.

use crate::error::{DoorError, DoorResult, ErrorCode};
use crate::head::{Head, Target};
use http::Method;
use strongroom_types::{BucketName, ObjectKey};

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operation {
    /// All buckets.
    ListBuckets,
    /// Make a bucket.
    CreateBucket(BucketName),
    /// Whether a bucket exists.
    HeadBucket(BucketName),
    /// Remove a bucket.
    DeleteBucket(BucketName),
    /// One fact about a bucket.
    GetBucketFact(BucketName, BucketFact),
    /// Keys, first form.
    ListObjects(BucketName),
    /// Keys, second form.
    ListObjectsV2(BucketName),
    /// Remove several objects.
    DeleteObjects(BucketName),
    /// Read an object.
    GetObject(BucketName, ObjectKey),
    /// What an object is.
    HeadObject(BucketName, ObjectKey),
    /// Who may do what with an object.
    GetObjectAcl(BucketName, ObjectKey),
    /// Store an object.
    PutObject(BucketName, ObjectKey),
    /// Store an object from another.
    CopyObject(BucketName, ObjectKey),
    /// Remove an object.
    DeleteObject(BucketName, ObjectKey),
}

/// A subresource of a bucket that is answered although nothing can be set there: clients ask before they do anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BucketFact {
    /// The region.
    Location,
    /// Whether versions are kept.
    Versioning,
    /// Who may do what.
    Acl,
    /// Not set, and cannot be: the code that S3 gives then.
    Unset(ErrorCode),
    /// Who pays for requests: the owner.
    RequestPayment,
}

impl Operation {
    /// The name in S3's API, for logs and metrics.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::ListBuckets => "ListBuckets",
            Self::CreateBucket(_) => "CreateBucket",
            Self::HeadBucket(_) => "HeadBucket",
            Self::DeleteBucket(_) => "DeleteBucket",
            Self::GetBucketFact(_, BucketFact::Location) => "GetBucketLocation",
            Self::GetBucketFact(_, BucketFact::Versioning) => "GetBucketVersioning",
            Self::GetBucketFact(_, BucketFact::Acl) => "GetBucketAcl",
            Self::GetBucketFact(_, BucketFact::Unset(_)) => "GetBucketConfiguration",
            Self::GetBucketFact(_, BucketFact::RequestPayment) => "GetBucketRequestPayment",
            Self::ListObjects(_) => "ListObjects",
            Self::ListObjectsV2(_) => "ListObjectsV2",
            Self::DeleteObjects(_) => "DeleteObjects",
            Self::GetObject(..) => "GetObject",
            Self::HeadObject(..) => "HeadObject",
            Self::GetObjectAcl(..) => "GetObjectAcl",
            Self::PutObject(..) => "PutObject",
            Self::CopyObject(..) => "CopyObject",
            Self::DeleteObject(..) => "DeleteObject",
        }
    }

    /// The operation that `head` asks for at `target`.
    ///
    /// # Errors
    /// `NotImplemented`, `MethodNotAllowed`.
    pub fn resolve(head: &Head, target: Target) -> DoorResult<Self> {
        let post_form =
            head.header("content-type")?.is_some_and(|kind| kind.starts_with("multipart/form-data"));
        if head.method == Method::POST && post_form {
            return Err(DoorError::not_implemented("uploads by POST forms"));
        }
        let subresource = subresource(head)?;
        let operation = match target {
            Target::Service => of_service(head, subresource),
            Target::Bucket(bucket) => of_bucket(head, subresource, bucket),
            Target::Object(bucket, key) => of_object(head, subresource, bucket, key),
        }?;
        headers::check(head, &operation)?;
        Ok(operation)
    }
}

/// The parameters of S3 that name another thing than the bucket or object itself.
const SUBRESOURCES: &[&str] = &[
    "accelerate",
    "acl",
    "analytics",
    "annotation",
    "append",
    "attributes",
    "cors",
    "delete",
    "encryption",
    "events",
    "intelligent-tiering",
    "inventory",
    "legal-hold",
    "lifecycle",
    "location",
    "logging",
    "metadataConfiguration",
    "metadataTable",
    "metrics",
    "notification",
    "object-lock",
    "ownershipControls",
    "policy",
    "policyStatus",
    "publicAccessBlock",
    "renameObject",
    "replication",
    "requestPayment",
    "restore",
    "retention",
    "select",
    "session",
    "tagging",
    "torrent",
    "uploadId",
    "uploads",
    "versioning",
    "versions",
    "website",
];

/// The one subresource that is asked for.
fn subresource(head: &Head) -> DoorResult<Option<&str>> {
    let mut named =
        head.parameters.iter().map(|parameter| parameter.name.as_str()).filter(|n| SUBRESOURCES.contains(n));
    match (named.next(), named.next()) {
        (first, None) => Ok(first),
        (Some(first), Some(second)) => Err(DoorError::invalid_argument(
            "ResourceType",
            second,
            format!("Conflicting query string parameters: {first}, {second}"),
        )),
        (None, Some(_)) => unreachable!("an iterator that ended gives nothing more"),
    }
}

/// Refuses parameters that are neither in `known` nor part of signing.
fn check_parameters(head: &Head, known: &[&str]) -> DoorResult<()> {
    const SIGNING: [&str; 8] = [
        "X-Amz-Algorithm",
        "X-Amz-Credential",
        "X-Amz-Date",
        "X-Amz-Expires",
        "X-Amz-SignedHeaders",
        "X-Amz-Signature",
        "X-Amz-Content-Sha256",
        "X-Amz-Security-Token",
    ];
    let presigned = head.parameter("X-Amz-Signature").is_some();
    for parameter in &head.parameters {
        let name = parameter.name.as_str();
        // `x-id` names the operation once more: SDKs add it for logs.
        let fits = name == "x-id"
            || known.contains(&name)
            || SIGNING.contains(&name)
            || (presigned && hoisted(name));
        if !fits {
            return Err(DoorError::not_implemented(format!("the query parameter {name:?} on this request"))
                .with("ArgumentName", name));
        }
    }
    Ok(())
}

/// Headers that SDKs move into the query of a presigned URL and that hold there. Checksums are taken and not applied:
/// when the URL is signed there is no body yet, and SDKs put the checksum of nothing there.
fn hoisted(name: &str) -> bool {
    let lower = name.to_ascii_lowercase();
    lower.starts_with("x-amz-meta-")
        || lower.starts_with("x-amz-checksum-")
        || matches!(lower.as_str(), "x-amz-sdk-checksum-algorithm" | "x-amz-user-agent")
}

fn method_not_allowed(head: &Head, resource: &str) -> DoorError {
    DoorError::new(ErrorCode::MethodNotAllowed, "The specified method is not allowed against this resource.")
        .with("Method", head.method.as_str())
        .with("ResourceType", resource)
}

fn subresource_not_implemented(head: &Head, name: &str) -> DoorError {
    DoorError::not_implemented(format!("{} of the subresource {name:?}", head.method))
        .with("ResourceType", name)
}

fn of_service(head: &Head, subresource: Option<&str>) -> DoorResult<Operation> {
    if let Some(name) = subresource {
        return Err(subresource_not_implemented(head, name));
    }
    if head.method != Method::GET {
        return Err(method_not_allowed(head, "SERVICE"));
    }
    check_parameters(head, &["prefix", "max-buckets", "continuation-token"])?;
    Ok(Operation::ListBuckets)
}

fn of_bucket(head: &Head, subresource: Option<&str>, bucket: BucketName) -> DoorResult<Operation> {
    let get = head.method == Method::GET;
    let Some(name) = subresource else {
        let list = ["prefix", "delimiter", "max-keys", "encoding-type"];
        return match head.method {
            Method::GET => match head.parameter("list-type") {
                Some("2") => {
                    let second = ["list-type", "start-after", "continuation-token", "fetch-owner"];
                    check_parameters(head, &[&list[..], &second[..]].concat())?;
                    Ok(Operation::ListObjectsV2(bucket))
                }
                Some(other) => Err(DoorError::invalid_argument(
                    "list-type",
                    other,
                    "Invalid List Type specified in request",
                )),
                None => {
                    check_parameters(head, &[&list[..], &["marker"]].concat())?;
                    Ok(Operation::ListObjects(bucket))
                }
            },
            Method::PUT => check_parameters(head, &[]).map(|()| Operation::CreateBucket(bucket)),
            Method::HEAD => check_parameters(head, &[]).map(|()| Operation::HeadBucket(bucket)),
            Method::DELETE => check_parameters(head, &[]).map(|()| Operation::DeleteBucket(bucket)),
            _ => Err(method_not_allowed(head, "BUCKET")),
        };
    };
    check_parameters(head, &[name])?;
    let fact = match name {
        "delete" if head.method == Method::POST => return Ok(Operation::DeleteObjects(bucket)),
        "location" => BucketFact::Location,
        "versioning" => BucketFact::Versioning,
        "acl" => BucketFact::Acl,
        "requestPayment" => BucketFact::RequestPayment,
        "policy" => BucketFact::Unset(ErrorCode::NoSuchBucketPolicy),
        "cors" => BucketFact::Unset(ErrorCode::NoSuchCORSConfiguration),
        "lifecycle" => BucketFact::Unset(ErrorCode::NoSuchLifecycleConfiguration),
        "tagging" => BucketFact::Unset(ErrorCode::NoSuchTagSet),
        "encryption" => BucketFact::Unset(ErrorCode::ServerSideEncryptionConfigurationNotFoundError),
        _ => return Err(subresource_not_implemented(head, name)),
    };
    if get {
        Ok(Operation::GetBucketFact(bucket, fact))
    } else {
        Err(subresource_not_implemented(head, name))
    }
}

fn of_object(
    head: &Head,
    subresource: Option<&str>,
    bucket: BucketName,
    key: ObjectKey,
) -> DoorResult<Operation> {
    if let Some(name) = subresource {
        let acl = name == "acl" && head.method == Method::GET;
        check_parameters(head, if acl { &["acl", "versionId"] } else { SUBRESOURCES })?;
        return if acl {
            Ok(Operation::GetObjectAcl(bucket, key))
        } else {
            Err(subresource_not_implemented(head, name))
        };
    }
    let read = [
        "versionId",
        "response-content-type",
        "response-content-language",
        "response-expires",
        "response-cache-control",
        "response-content-disposition",
        "response-content-encoding",
    ];
    match head.method {
        Method::GET => check_parameters(head, &read).map(|()| Operation::GetObject(bucket, key)),
        Method::HEAD => check_parameters(head, &read).map(|()| Operation::HeadObject(bucket, key)),
        Method::DELETE => check_parameters(head, &[]).map(|()| Operation::DeleteObject(bucket, key)),
        Method::PUT => {
            check_parameters(head, &[])?;
            if head.headers.contains_key("x-amz-copy-source") {
                Ok(Operation::CopyObject(bucket, key))
            } else {
                Ok(Operation::PutObject(bucket, key))
            }
        }
        _ => Err(method_not_allowed(head, "OBJECT")),
    }
}

mod headers;

#[cfg(test)]
mod tests;
