//! Request headers that promise something. What cannot be kept is refused, never passed over: a client that asks for
//! retention or a foreign key must not believe that it has it.

use super::Operation;
use crate::error::{DoorError, DoorResult, ErrorCode};
use crate::head::Head;

/// Refuses headers of `head` that ask for more than `operation` does.
///
/// # Errors
/// `NotImplemented`, `AccessControlListNotSupported`, `InvalidStorageClass`.
pub(super) fn check(head: &Head, operation: &Operation) -> DoorResult<()> {
    for name in head.headers.keys() {
        let name = name.as_str();
        let Some(short) = name.strip_prefix("x-amz-") else { continue };
        let value = head.header(name)?.unwrap_or("");
        let harmless = match short {
            "acl" => matches!(value, "private" | "bucket-owner-full-control" | "bucket-owner-read"),
            "storage-class" => value == "STANDARD",
            "server-side-encryption" => value == "AES256",
            "bucket-object-lock-enabled" => value.eq_ignore_ascii_case("false"),
            "object-ownership" => value == "BucketOwnerEnforced",
            "tagging" => value.is_empty(),
            "tagging-directive" => value == "COPY",
            "mfa"
            | "expected-bucket-owner"
            | "source-expected-bucket-owner"
            | "website-redirect-location"
            | "write-offset-bytes"
            | "rename-source"
            | "server-side-encryption-aws-kms-key-id"
            | "server-side-encryption-context" => false,
            other => {
                !(other.starts_with("grant-")
                    || other.starts_with("object-lock-")
                    || other.starts_with("server-side-encryption-customer-")
                    || other.starts_with("copy-source-server-side-encryption-customer-")
                    || (other.starts_with("if-match-") && matches!(operation, Operation::DeleteObject(..))))
            }
        };
        if harmless {
            continue;
        }
        return Err(match short {
            "acl" => acl(),
            grant if grant.starts_with("grant-") => acl(),
            "storage-class" => {
                DoorError::new(ErrorCode::InvalidStorageClass, "The storage class you specified is not valid")
                    .with("StorageClassRequested", value)
            }
            _ => DoorError::not_implemented(format!("the header {name}: {value}")).with("Header", name),
        });
    }
    Ok(())
}

fn acl() -> DoorError {
    DoorError::new(ErrorCode::AccessControlListNotSupported, "The bucket does not allow ACLs")
}
