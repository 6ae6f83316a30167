//! Lists of keys, both forms.

use super::answer::{self, Body};
use super::{Admitted, Door, bucket};
use crate::date;
use crate::error::{DoorError, DoorResult, ErrorCode};
use crate::head::Head;
use crate::percent::{self, Slash};
use crate::store::{ListEntry, ListPage, ListRequest};
use crate::xml::XmlWriter;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64_URL;
use http::Response;
use strongroom_types::BucketName;
use strongroom_types::limits::{LIST_KEYS_MAX, OBJECT_KEY_LEN_BYTES_MAX};

/// What both forms share.
struct Common<'a> {
    prefix: &'a str,
    delimiter: Option<&'a str>,
    max_keys: u32,
    encoding: Encoding,
}

/// How keys stand in the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Encoding {
    Plain,
    Url,
}

impl Encoding {
    fn apply(self, text: &str) -> std::borrow::Cow<'_, str> {
        match self {
            Self::Plain => text.into(),
            Self::Url => percent::encode(text.as_bytes(), Slash::Keep).into(),
        }
    }
}

impl<'a> Common<'a> {
    fn new(head: &'a Head) -> DoorResult<Self> {
        let max_keys = match head.parameter("max-keys") {
            None => LIST_KEYS_MAX,
            Some(text) => {
                text.parse::<i32>().ok().and_then(|count| u32::try_from(count).ok()).ok_or_else(|| {
                    DoorError::invalid_argument(
                        "max-keys",
                        text,
                        "Argument maxKeys must be an integer between 0 and 2147483647",
                    )
                })?
            }
        };
        let encoding = match head.parameter("encoding-type") {
            None | Some("") => Encoding::Plain,
            Some("url") => Encoding::Url,
            Some(other) => {
                return Err(DoorError::invalid_argument(
                    "encoding-type",
                    other,
                    "Invalid Encoding Method specified in Request",
                ));
            }
        };
        Ok(Self {
            prefix: bounded(head, "prefix")?.unwrap_or(""),
            delimiter: bounded(head, "delimiter")?.filter(|delimiter| !delimiter.is_empty()),
            max_keys: max_keys.min(LIST_KEYS_MAX),
            encoding,
        })
    }

    fn write(&self, xml: &mut XmlWriter, bucket: &BucketName, truncated: bool) {
        xml.text("Name", bucket.as_str());
        xml.text("Prefix", &self.encoding.apply(self.prefix));
        xml.text("MaxKeys", &self.max_keys.to_string());
        if let Some(delimiter) = self.delimiter {
            xml.text("Delimiter", &self.encoding.apply(delimiter));
        }
        if self.encoding == Encoding::Url {
            xml.text("EncodingType", "url");
        }
        xml.text("IsTruncated", if truncated { "true" } else { "false" });
    }

    fn write_entries(&self, xml: &mut XmlWriter, page: &ListPage, owner: Owner) {
        for entry in &page.entries {
            if let ListEntry::Object { key, len_bytes, etag, modified } = entry {
                xml.element("Contents", |xml| {
                    xml.text("Key", &self.encoding.apply(key.as_str()));
                    xml.text("LastModified", &date::xml(*modified));
                    xml.text("ETag", &format!("\"{}\"", etag.as_str()));
                    xml.text("Size", &len_bytes.to_string());
                    if owner == Owner::Shown {
                        bucket::owner(xml);
                    }
                    xml.text("StorageClass", "STANDARD");
                });
            }
        }
        for entry in &page.entries {
            if let ListEntry::CommonPrefix(prefix) = entry {
                xml.element("CommonPrefixes", |xml| xml.text("Prefix", &self.encoding.apply(prefix)));
            }
        }
    }
}

/// Whether entries name their owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Owner {
    Hidden,
    Shown,
}

/// A parameter that is a key or part of one.
fn bounded<'a>(head: &'a Head, name: &str) -> DoorResult<Option<&'a str>> {
    match head.parameter(name) {
        Some(value) if value.len() > OBJECT_KEY_LEN_BYTES_MAX => {
            Err(DoorError::new(ErrorCode::KeyTooLongError, format!("{name} is longer than a key can be."))
                .with("Size", value.len().to_string()))
        }
        value => Ok(value),
    }
}

fn last_entry(page: &ListPage) -> Option<&str> {
    page.entries.last().map(|entry| match entry {
        ListEntry::Object { key, .. } => key.as_str(),
        ListEntry::CommonPrefix(prefix) => prefix,
    })
}

impl Door {
    pub(super) async fn list_objects(
        &self,
        request: Admitted<'_>,
        name: BucketName,
    ) -> DoorResult<Response<Body>> {
        let common = Common::new(request.head)?;
        let marker = bounded(request.head, "marker")?.unwrap_or("");
        let page = self.page(&common, &name, marker).await?;
        Ok(answer::document(XmlWriter::document("ListBucketResult", |xml| {
            common.write(xml, &name, page.truncated);
            xml.text("Marker", &common.encoding.apply(marker));
            // Without a delimiter clients go on from the last key themselves.
            if let (true, Some(_), Some(last)) = (page.truncated, common.delimiter, last_entry(&page)) {
                xml.text("NextMarker", &common.encoding.apply(last));
            }
            common.write_entries(xml, &page, Owner::Shown);
        })))
    }

    pub(super) async fn list_objects_v2(
        &self,
        request: Admitted<'_>,
        name: BucketName,
    ) -> DoorResult<Response<Body>> {
        let head = request.head;
        let common = Common::new(head)?;
        let start_after = bounded(head, "start-after")?;
        let token = head.parameter("continuation-token");
        let owner = if head.parameter("fetch-owner") == Some("true") { Owner::Shown } else { Owner::Hidden };
        let after = match token {
            Some(token) => token_key(&name, token).ok_or_else(|| {
                DoorError::invalid_argument(
                    "continuation-token",
                    token,
                    "The continuation token provided is incorrect",
                )
            })?,
            None => start_after.unwrap_or("").to_owned(),
        };
        let page = self.page(&common, &name, &after).await?;
        Ok(answer::document(XmlWriter::document("ListBucketResult", |xml| {
            common.write(xml, &name, page.truncated);
            xml.text("KeyCount", &page.entries.len().to_string());
            if let Some(token) = token {
                xml.text("ContinuationToken", token);
            }
            if let Some(start_after) = start_after {
                xml.text("StartAfter", &common.encoding.apply(start_after));
            }
            if let (true, Some(last)) = (page.truncated, last_entry(&page)) {
                xml.text("NextContinuationToken", &key_token(&name, last));
            }
            common.write_entries(xml, &page, owner);
        })))
    }

    async fn page(&self, common: &Common<'_>, bucket: &BucketName, after: &str) -> DoorResult<ListPage> {
        if common.max_keys == 0 {
            self.store().bucket(bucket).await?;
            return Ok(ListPage::default());
        }
        let page = self
            .store()
            .list(ListRequest {
                bucket: bucket.clone(),
                prefix: common.prefix.to_owned(),
                delimiter: common.delimiter.map(str::to_owned),
                after: Some(after.to_owned()).filter(|after| !after.is_empty()),
                limit: common.max_keys,
            })
            .await?;
        assert!(
            page.entries.len() <= common.max_keys as usize,
            "a store gives no more entries than asked for"
        );
        assert!(!page.truncated || !page.entries.is_empty(), "a page that is not the last makes progress");
        Ok(page)
    }
}

/// The token that goes on after `key` in `bucket`: opaque to clients, and of no use for another bucket.
fn key_token(bucket: &BucketName, key: &str) -> String {
    let mut bytes = token_check(bucket, key).to_be_bytes().to_vec();
    bytes.extend_from_slice(key.as_bytes());
    BASE64_URL.encode(bytes)
}

fn token_key(bucket: &BucketName, token: &str) -> Option<String> {
    let bytes = BASE64_URL.decode(token).ok()?;
    let (check, key) = bytes.split_first_chunk::<4>()?;
    let key = String::from_utf8(key.to_vec()).ok()?;
    (u32::from_be_bytes(*check) == token_check(bucket, &key)).then_some(key)
}

/// Finds tokens that were cut or made up by mistake; whoever may list may also make one on purpose.
fn token_check(bucket: &BucketName, key: &str) -> u32 {
    crc_fast::crc32_iscsi(format!("list-1 {bucket} {key}").as_bytes())
}
