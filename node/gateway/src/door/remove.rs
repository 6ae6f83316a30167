//! Removing objects, one and many.

use super::answer::{self, Body};
use super::document::Vouched;
use super::{Admitted, Door};
use crate::conditions;
use crate::error::{DoorError, DoorResult, ErrorCode};
use crate::head::object_key;
use crate::limits::DELETES_IN_FLIGHT_MAX;
use crate::xml::{Element, XmlWriter};
use futures::future::BoxFuture;
use futures::{FutureExt as _, StreamExt as _, stream};
use http::{Response, StatusCode};
use strongroom_types::limits::DELETE_KEYS_MAX;
use strongroom_types::{BucketName, Condition, ETag, ObjectKey};

impl Door {
    pub(super) async fn delete_object(
        &self,
        request: Admitted<'_>,
        bucket: &BucketName,
        key: &ObjectKey,
    ) -> DoorResult<Response<Body>> {
        let condition = conditions::of_write(request.head)?;
        if condition == Condition::Absent {
            return Err(DoorError::not_implemented("If-None-Match on DeleteObject"));
        }
        self.store().delete(bucket, key, condition).await?;
        Ok(answer::empty(StatusCode::NO_CONTENT))
    }

    pub(super) async fn delete_objects(
        &self,
        request: Admitted<'_>,
        bucket: &BucketName,
    ) -> DoorResult<Response<Body>> {
        let malformed = |what: &str| {
            DoorError::new(
                ErrorCode::MalformedXML,
                format!(
                    "The XML you provided was not well-formed or did not validate against our published schema: {what}."
                ),
            )
        };
        let root = self.read_document(request, Vouched::Digest).await?.ok_or_else(|| malformed("no body"))?;
        if root.name != "Delete" {
            return Err(malformed("expected a Delete"));
        }
        let quiet = match root.child_text("Quiet").map(str::trim) {
            None | Some("" | "false") => false,
            Some("true") => true,
            Some(_) => return Err(malformed("Quiet is true or false")),
        };
        if root.children.iter().any(|child| !matches!(child.name.as_str(), "Object" | "Quiet")) {
            return Err(malformed("a Delete holds Object and Quiet"));
        }
        let objects: Vec<&Element> = root.children.iter().filter(|child| child.name == "Object").collect();
        if objects.is_empty() || objects.len() > DELETE_KEYS_MAX {
            return Err(malformed("expected 1 to 1000 objects"));
        }
        let mut keys = Vec::with_capacity(objects.len());
        for object in &objects {
            keys.push(object.child_text("Key").ok_or_else(|| malformed("an Object without Key"))?);
        }
        self.store().bucket(bucket).await?;

        let deletes: Vec<BoxFuture<'_, DoorResult<()>>> = objects
            .iter()
            .zip(&keys)
            .map(|(object, key)| self.delete_listed(bucket, object, key).boxed())
            .collect();
        let results: Vec<DoorResult<()>> =
            stream::iter(deletes).buffered(DELETES_IN_FLIGHT_MAX).collect().await;
        Ok(answer::document(XmlWriter::document("DeleteResult", |xml| {
            for (key, result) in keys.iter().zip(&results) {
                match result {
                    Ok(()) if quiet => {}
                    Ok(()) => xml.element("Deleted", |xml| xml.text("Key", key)),
                    Err(error) => xml.element("Error", |xml| {
                        xml.text("Key", key);
                        xml.text("Code", error.code.as_str());
                        xml.text("Message", &error.message);
                    }),
                }
            }
        })))
    }

    /// Removes one of many: its failure is its own.
    async fn delete_listed(&self, bucket: &BucketName, object: &Element, key: &str) -> DoorResult<()> {
        let key = object_key(key)?;
        let mut condition = Condition::None;
        for child in &object.children {
            match (child.name.as_str(), child.text.as_str()) {
                ("Key", _) | ("VersionId", "" | "null") => {}
                ("ETag", tag) => condition = Condition::Matches(ETag::new(tag)),
                (other, _) => return Err(DoorError::not_implemented(format!("{other} in DeleteObjects"))),
            }
        }
        self.store().delete(bucket, &key, condition).await.map_err(DoorError::from)
    }
}
