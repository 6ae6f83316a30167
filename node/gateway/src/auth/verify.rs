//! Lets a request in or says why not.

use crate::auth::credentials::{Caller, Credentials};
use crate::auth::payload::Payload;
use crate::auth::signature::{ALGORITHM, Canonical, ChunkSigner, Scope, SigningKey, equal, string_to_sign};
use crate::date;
use crate::error::{DoorError, DoorResult, ErrorCode};
use crate::head::{Head, Parameter};
use crate::limits::{CLOCK_SKEW_SECONDS_MAX, PRESIGN_SECONDS_MAX, SIGNED_HEADERS_MAX};
use crate::percent;
use strongroom_types::WallTime;

/// A request that was let in.
pub struct Authenticated {
    /// Who asks.
    pub caller: Caller,
    /// How the body comes and what vouches for it.
    pub payload: Payload,
    /// The chain of chunk signatures, where the chunks are signed.
    pub chunks: Option<ChunkSigner>,
    /// Whether the signature was in the query.
    pub presigned: bool,
}

/// What a request claims, before it is believed.
struct Claim {
    access_key: String,
    scope: Scope,
    signed_headers: Vec<String>,
    signature: [u8; 32],
    amz_date: String,
    payload: String,
    presigned: bool,
}

const MECHANISM: &str =
    "The authorization mechanism you have provided is not supported. Please use AWS4-HMAC-SHA256.";

/// Verifies the signature of `head` at time `now`.
///
/// # Errors
/// As S3: `AccessDenied` (no signature; expired; headers left unsigned), `InvalidRequest` (SigV2 and others),
/// `AuthorizationHeaderMalformed`, `AuthorizationQueryParametersError`, `RequestTimeTooSkewed`, `InvalidAccessKeyId`,
/// `SignatureDoesNotMatch`.
pub fn authenticate(head: &Head, credentials: &dyn Credentials, now: WallTime) -> DoorResult<Authenticated> {
    let header = head.header("authorization")?;
    let in_query = head.parameter("X-Amz-Algorithm").is_some() || head.parameter("X-Amz-Signature").is_some();
    let old_query = head.parameter("AWSAccessKeyId").is_some() && head.parameter("Signature").is_some();
    let claim = match (header, in_query || old_query) {
        (Some(_), true) => {
            return Err(DoorError::new(
                ErrorCode::InvalidArgument,
                "Only one auth mechanism allowed; only the X-Amz-Algorithm query parameter, Signature query string \
                 parameter or the Authorization header should be specified",
            ));
        }
        (Some(header), false) => from_header(head, header, now)?,
        (None, true) if !in_query => return Err(DoorError::new(ErrorCode::InvalidRequest, MECHANISM)),
        (None, true) => from_query(head, now)?,
        (None, false) => {
            return Err(DoorError::new(ErrorCode::AccessDenied, "Access Denied: the request is not signed."));
        }
    };
    check_signed_headers(head, &claim)?;
    if head.headers.contains_key("x-amz-security-token") || head.parameter("X-Amz-Security-Token").is_some() {
        return Err(DoorError::new(
            ErrorCode::InvalidToken,
            "The provided token is malformed or otherwise invalid: this server gives out no session tokens.",
        ));
    }
    let payload = Payload::parse(&claim.payload)?;
    let credential = credentials.find(&claim.access_key).ok_or_else(|| {
        DoorError::new(
            ErrorCode::InvalidAccessKeyId,
            "The AWS Access Key Id you provided does not exist in our records.",
        )
        .with("AWSAccessKeyId", claim.access_key.as_str())
    })?;

    let key = SigningKey::derive(&credential.secret, &claim.scope);
    let parameters: Vec<&Parameter> = head
        .parameters
        .iter()
        .filter(|parameter| !(claim.presigned && parameter.name == "X-Amz-Signature"))
        .collect();
    let canonical = Canonical {
        method: &head.method,
        path: &head.path,
        parameters,
        headers: &head.headers,
        host: &head.host,
        signed_headers: &claim.signed_headers,
        payload: &claim.payload,
    }
    .to_bytes();
    let to_sign = string_to_sign(&claim.amz_date, &claim.scope, &canonical);
    if !equal(&key.sign(&to_sign), &claim.signature) {
        return Err(DoorError::new(
            ErrorCode::SignatureDoesNotMatch,
            "The request signature we calculated does not match the signature you provided. Check your key and signing method.",
        )
        .with("AWSAccessKeyId", claim.access_key)
        .with("StringToSign", to_sign)
        .with("SignatureProvided", percent::hex(&claim.signature))
        .with("CanonicalRequest", String::from_utf8_lossy(&canonical)));
    }
    let chunks = match payload {
        Payload::SignedChunks | Payload::SignedChunksTrailer => {
            Some(ChunkSigner::new(key, claim.amz_date, claim.scope, claim.signature))
        }
        Payload::Sha256(_) | Payload::Unsigned | Payload::UnsignedChunksTrailer => None,
    };
    Ok(Authenticated { caller: credential.caller, payload, chunks, presigned: claim.presigned })
}

/// Reads an `Authorization` header.
fn from_header(head: &Head, header: &str, now: WallTime) -> DoorResult<Claim> {
    let malformed = |what: &str| {
        DoorError::new(
            ErrorCode::AuthorizationHeaderMalformed,
            format!("The authorization header you provided is malformed; {what}."),
        )
    };
    let (algorithm, rest) = header.split_once(' ').ok_or_else(|| malformed("no parameters"))?;
    if algorithm != ALGORITHM {
        return Err(DoorError::new(ErrorCode::InvalidRequest, MECHANISM));
    }
    let (mut credential, mut signed_headers, mut signature) = (None, None, None);
    for part in rest.split(',') {
        let (name, value) = part.trim().split_once('=').ok_or_else(|| malformed("a parameter has no '='"))?;
        let slot = match name {
            "Credential" => &mut credential,
            "SignedHeaders" => &mut signed_headers,
            "Signature" => &mut signature,
            _ => return Err(malformed("unknown parameter")),
        };
        if slot.replace(value).is_some() {
            return Err(malformed("a parameter is repeated"));
        }
    }
    let credential = credential.ok_or_else(|| malformed("missing Credential"))?;
    let (access_key, scope) = parse_credential(credential).map_err(malformed)?;
    let signed_headers = parse_signed_headers(signed_headers.unwrap_or("")).map_err(malformed)?;
    let signature = signature
        .and_then(percent::hex_32)
        .ok_or_else(|| malformed("Signature is not 64 hexadecimal digits"))?;

    let undated = || {
        DoorError::new(
            ErrorCode::AccessDenied,
            "AWS authentication requires a valid Date or x-amz-date header",
        )
    };
    let at = match head.header("x-amz-date")? {
        Some(text) => date::parse_amz(text).ok_or_else(undated)?,
        None => head.header("date")?.and_then(date::parse_http).ok_or_else(undated)?,
    };
    if date::seconds(at).abs_diff(date::seconds(now)) > CLOCK_SKEW_SECONDS_MAX {
        return Err(DoorError::new(
            ErrorCode::RequestTimeTooSkewed,
            "The difference between the request time and the current time is too large.",
        )
        .with("RequestTime", date::amz(at))
        .with("ServerTime", date::xml(now))
        .with("MaxAllowedSkewMilliseconds", (CLOCK_SKEW_SECONDS_MAX * 1000).to_string()));
    }
    let amz_date = date::amz(at);
    if !amz_date.starts_with(&scope.day) {
        return Err(malformed("the day of the Credential is not the day of the request"));
    }
    let payload = head.header("x-amz-content-sha256")?.ok_or_else(|| {
        DoorError::new(
            ErrorCode::InvalidRequest,
            "Missing required header for this request: x-amz-content-sha256",
        )
    })?;
    let payload = payload.to_owned();
    Ok(Claim { access_key, scope, signed_headers, signature, amz_date, payload, presigned: false })
}

/// Reads the parameters of a presigned URL.
fn from_query(head: &Head, now: WallTime) -> DoorResult<Claim> {
    let refused = |what: &str| DoorError::new(ErrorCode::AuthorizationQueryParametersError, what);
    let required = |name: &str| {
        let mut values = head.parameters.iter().filter(|parameter| parameter.name == name);
        match (values.next(), values.next()) {
            (Some(parameter), None) => Ok(parameter.value.as_str()),
            _ => Err(refused(
                "Query-string authentication version 4 requires the X-Amz-Algorithm, X-Amz-Credential, \
                 X-Amz-Signature, X-Amz-Date, X-Amz-SignedHeaders, and X-Amz-Expires parameters, each once.",
            )),
        }
    };
    if required("X-Amz-Algorithm")? != ALGORITHM {
        return Err(refused("X-Amz-Algorithm only supports \"AWS4-HMAC-SHA256\""));
    }
    let (access_key, scope) = parse_credential(required("X-Amz-Credential")?)
        .map_err(|what| refused(&format!("Error parsing the X-Amz-Credential parameter; {what}.")))?;
    let signed_headers = parse_signed_headers(required("X-Amz-SignedHeaders")?).map_err(refused)?;
    let signature = percent::hex_32(required("X-Amz-Signature")?)
        .ok_or_else(|| refused("X-Amz-Signature is not 64 hexadecimal digits"))?;
    let amz_date = required("X-Amz-Date")?;
    let at = date::parse_amz(amz_date)
        .ok_or_else(|| refused("X-Amz-Date must be in the ISO8601 Long Format \"yyyyMMdd'T'HHmmss'Z'\""))?;
    if !amz_date.starts_with(&scope.day) {
        return Err(refused("Invalid credential date: it is not the day of X-Amz-Date."));
    }
    let expires: u64 = required("X-Amz-Expires")?
        .parse()
        .map_err(|_| refused("X-Amz-Expires should be a number of seconds"))?;
    if expires > PRESIGN_SECONDS_MAX {
        return Err(refused(
            "X-Amz-Expires must be less than a week (in seconds); that is, the given X-Amz-Expires must be less than 604800 seconds",
        ));
    }
    let (at_seconds, now_seconds) = (date::seconds(at), date::seconds(now));
    if at_seconds > now_seconds.saturating_add(CLOCK_SKEW_SECONDS_MAX) {
        return Err(DoorError::new(ErrorCode::AccessDenied, "Request is not valid yet")
            .with("ServerTime", date::xml(now)));
    }
    let end = at_seconds.saturating_add(expires);
    if now_seconds > end {
        return Err(DoorError::new(ErrorCode::AccessDenied, "Request has expired")
            .with("X-Amz-Expires", expires.to_string())
            .with("Expires", date::xml(WallTime::from_unix_millis(end.saturating_mul(1000))))
            .with("ServerTime", date::xml(now)));
    }
    let payload = match head.parameter("X-Amz-Content-Sha256") {
        Some(payload) => payload,
        None if signed_headers.iter().any(|name| name == "x-amz-content-sha256") => {
            head.header("x-amz-content-sha256")?.unwrap_or("UNSIGNED-PAYLOAD")
        }
        None => "UNSIGNED-PAYLOAD",
    };
    let (amz_date, payload) = (amz_date.to_owned(), payload.to_owned());
    Ok(Claim { access_key, scope, signed_headers, signature, amz_date, payload, presigned: true })
}

/// `AKIA…/20130524/us-east-1/s3/aws4_request`. The key itself may hold slashes.
fn parse_credential(text: &str) -> Result<(String, Scope), &'static str> {
    let mut parts = text.rsplitn(5, '/');
    let mut next = || parts.next().ok_or("the Credential has fewer than five parts");
    let (terminator, service, region, day, access_key) = (next()?, next()?, next()?, next()?, next()?);
    if terminator != "aws4_request" {
        return Err("the Credential does not end in \"aws4_request\"");
    }
    if service != "s3" {
        return Err("the Credential is for another service than \"s3\"");
    }
    if day.len() != 8 || !day.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err("the Credential's day is not of the form \"yyyyMMdd\"");
    }
    let scope = Scope { day: day.to_owned(), region: region.to_owned(), service: service.to_owned() };
    Ok((access_key.to_owned(), scope))
}

fn parse_signed_headers(text: &str) -> Result<Vec<String>, &'static str> {
    let names: Vec<String> =
        text.split(';').filter(|name| !name.is_empty()).map(str::to_ascii_lowercase).collect();
    if names.is_empty() {
        return Err("SignedHeaders is missing");
    }
    if names.len() > SIGNED_HEADERS_MAX {
        return Err("SignedHeaders names too many headers");
    }
    Ok(names)
}

/// The host and every `x-amz-` header must be signed: otherwise whoever carries the request could add one, and change
/// what it means. The payload's hash is part of the canonical request by itself.
fn check_signed_headers(head: &Head, claim: &Claim) -> DoorResult<()> {
    let signed = |name: &str| claim.signed_headers.iter().any(|candidate| candidate == name);
    let exempt = |name: &str| name == "x-amz-content-sha256";
    let unsigned: Vec<&str> = std::iter::once("host")
        .chain(head.headers.keys().map(http::HeaderName::as_str).filter(|name| name.starts_with("x-amz-")))
        .filter(|name| !signed(name) && !exempt(name))
        .collect();
    if unsigned.is_empty() {
        return Ok(());
    }
    Err(DoorError::new(
        ErrorCode::AccessDenied,
        "There were headers present in the request which were not signed",
    )
    .with("HeadersNotSigned", unsigned.join(", ")))
}
