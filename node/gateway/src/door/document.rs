//! XML bodies of requests: read whole, within bounds, verified like any body.

use super::{Admitted, Door, busy};
use crate::body::{BodyReader, Declared};
use crate::error::{DoorError, DoorResult, ErrorCode};
use crate::limits::XML_LEN_BYTES_MAX;
use crate::xml::{self, Element};

/// What must vouch for a document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Vouched {
    /// Nothing has to.
    Any,
    /// A digest, or a signature over the bytes.
    Digest,
}

impl Door {
    /// The document in the body of `request`; `None` where the body is empty.
    pub(super) async fn read_document(
        &self,
        request: Admitted<'_>,
        vouched: Vouched,
    ) -> DoorResult<Option<Element>> {
        let Admitted { head, authenticated, incoming } = request;
        let declared = Declared::new(head, authenticated.payload)?;
        let signed = matches!(authenticated.payload, crate::auth::Payload::Sha256(_))
            || authenticated.chunks.is_some();
        if vouched == Vouched::Digest && !declared.has_digest() && !signed {
            return Err(DoorError::new(
                ErrorCode::InvalidRequest,
                "Missing required header for this request: Content-MD5",
            ));
        }
        let _permit = self.documents.try_acquire().map_err(|_| busy())?;
        let too_long = |error: DoorError| match error.code {
            ErrorCode::EntityTooLarge => {
                DoorError::new(ErrorCode::MaxMessageLengthExceeded, "Your request was too large.")
                    .with("MaxMessageLengthBytes", XML_LEN_BYTES_MAX.to_string())
            }
            _ => error,
        };
        let mut reader =
            BodyReader::new(incoming, &self.tags, declared, authenticated.chunks, XML_LEN_BYTES_MAX as u64)
                .map_err(too_long)?;
        let mut document = Vec::new();
        while let Some(piece) = reader.next().await.map_err(too_long)? {
            document.extend_from_slice(&piece);
        }
        if document.is_empty() { Ok(None) } else { xml::parse(&document).map(Some) }
    }
}
