//! What a client is told when it is refused: S3's codes, each with its status.

use crate::store::StoreError;
use http::StatusCode;

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $status:literal,)*) => {
        /// The error codes of S3 that this door gives.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[allow(missing_docs)]
        pub enum ErrorCode { $($(#[$doc])* $name,)* }

        impl ErrorCode {
            /// The code as it stands in the XML.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => stringify!($name),)* }
            }

            /// The HTTP status that S3 gives with it.
            pub const fn status_u16(self) -> u16 {
                match self { $(Self::$name => $status,)* }
            }
        }
    };
}

// The names are S3's own and say what they mean in its "Error responses" page.
codes! {
    AccessControlListNotSupported = 400,
    AccessDenied = 403,
    AuthorizationHeaderMalformed = 400,
    AuthorizationQueryParametersError = 400,
    BadDigest = 400,
    BucketAlreadyExists = 409,
    BucketAlreadyOwnedByYou = 409,
    BucketNotEmpty = 409,
    EntityTooLarge = 400,
    IncompleteBody = 400,
    InternalError = 500,
    InvalidAccessKeyId = 403,
    InvalidArgument = 400,
    InvalidBucketName = 400,
    InvalidDigest = 400,
    InvalidRange = 416,
    InvalidRequest = 400,
    InvalidStorageClass = 400,
    InvalidToken = 400,
    InvalidURI = 400,
    KeyTooLongError = 400,
    MalformedTrailerError = 400,
    MalformedXML = 400,
    MaxMessageLengthExceeded = 400,
    MetadataTooLarge = 400,
    MethodNotAllowed = 405,
    MissingContentLength = 411,
    NoSuchBucket = 404,
    NoSuchBucketPolicy = 404,
    NoSuchCORSConfiguration = 404,
    NoSuchKey = 404,
    NoSuchLifecycleConfiguration = 404,
    NoSuchTagSet = 404,
    NoSuchVersion = 404,
    NotImplemented = 501,
    PreconditionFailed = 412,
    RequestHeaderSectionTooLarge = 400,
    RequestTimeTooSkewed = 403,
    RequestTimeout = 400,
    ServerSideEncryptionConfigurationNotFoundError = 404,
    ServiceUnavailable = 503,
    SignatureDoesNotMatch = 403,
    SlowDown = 503,
    XAmzContentSHA256Mismatch = 400,
}

impl ErrorCode {
    /// The HTTP status that S3 gives with it.
    pub fn status(self) -> StatusCode {
        StatusCode::from_u16(self.status_u16()).expect("the table holds statuses only")
    }
}

/// A refusal: the code, a sentence, and further fields of the XML.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DoorError {
    /// The code.
    pub code: ErrorCode,
    /// For people: what was expected, what was found.
    pub message: String,
    /// Further elements of the answer's XML, by name.
    pub fields: Vec<(&'static str, String)>,
}

/// What the door's own functions return.
pub type DoorResult<T> = Result<T, DoorError>;

impl DoorError {
    /// A refusal with this code and sentence.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), fields: Vec::new() }
    }

    /// The same with one more element in its XML.
    pub fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.fields.push((name, value.into()));
        self
    }

    /// Something that this door does not do, in words.
    pub fn not_implemented(what: impl std::fmt::Display) -> Self {
        Self::new(ErrorCode::NotImplemented, format!("This server does not implement {what}."))
    }

    /// An argument that breaks its rules.
    pub fn invalid_argument(name: &str, value: &str, message: impl Into<String>) -> Self {
        Self::new(ErrorCode::InvalidArgument, message).with("ArgumentName", name).with("ArgumentValue", value)
    }
}

impl std::fmt::Display for DoorError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.code.as_str(), self.message)
    }
}

impl std::error::Error for DoorError {}

impl From<StoreError> for DoorError {
    fn from(error: StoreError) -> Self {
        use ErrorCode as Code;
        let message = error.to_string();
        let code = match &error {
            StoreError::NoSuchBucket(_) => Code::NoSuchBucket,
            StoreError::NoSuchKey => Code::NoSuchKey,
            StoreError::BucketExists(_) => Code::BucketAlreadyOwnedByYou,
            StoreError::BucketClassDiffers(_) => Code::BucketAlreadyExists,
            StoreError::BucketNotEmpty(_) => Code::BucketNotEmpty,
            StoreError::PreconditionFailed => Code::PreconditionFailed,
            StoreError::TooLarge { .. } => Code::EntityTooLarge,
            StoreError::Busy => Code::SlowDown,
            StoreError::Unavailable { .. } | StoreError::Full => Code::ServiceUnavailable,
            StoreError::Damaged { .. } => Code::InternalError,
        };
        let message = match &error {
            StoreError::NoSuchBucket(_) => "The specified bucket does not exist.".to_owned(),
            StoreError::NoSuchKey => "The specified key does not exist.".to_owned(),
            StoreError::PreconditionFailed => {
                "At least one of the pre-conditions you specified did not hold.".to_owned()
            }
            StoreError::Busy => "Please reduce your request rate.".to_owned(),
            _ => message,
        };
        let error_out = Self::new(code, message);
        match error {
            StoreError::NoSuchBucket(name) | StoreError::BucketNotEmpty(name) => {
                error_out.with("BucketName", name.as_str())
            }
            _ => error_out,
        }
    }
}
