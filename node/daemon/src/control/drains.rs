//! What is to be emptied, over the control socket: drains are the cluster's, so any node may be asked, and whoever is asked may go.

use super::input::NamePath;
use super::problem::{Problem, Sort};
use crate::drain::DrainError;
use crate::jobs::rfc3339;
use crate::node::Node;
use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use strongroom_core::drain::Progress;
use strongroom_types::{DrainSubject, DriveId, NodeId};
use utoipa::ToSchema;

/// A drain, and how far it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DrainView {
    /// What is emptied: `node-3`, or a drive's 32 hexadecimal digits.
    pub subject: String,
    /// When it was asked for: RFC 3339.
    pub began: String,
    /// Nothing is left on it, by the slab tables of all groups, asked linearizably, and a node votes in no group: it may be taken out. It gets nothing new until
    /// the drain is ended.
    pub over: bool,
    /// Fragments that are left.
    pub fragments_left: u64,
    /// Their bytes.
    pub bytes_left: u64,
    /// Of a node, the groups in which it votes still: its seats go to others of its zone.
    pub seats_left: u64,
    /// Fragments that went since this node was asked first.
    pub fragments_moved: u64,
    /// Their bytes.
    pub bytes_moved: u64,
    /// Bytes a second, as of late.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes_per_second: Option<u64>,
    /// How long the rest takes at that rate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub left_seconds: Option<u64>,
    /// What does not move now, and why.
    pub waiting: Vec<Waiting>,
}

/// Fragments that do not move now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Waiting {
    /// What stands in their way, and what to do.
    pub reason: String,
    /// How many.
    pub fragments: u64,
    /// Their bytes.
    pub bytes: u64,
}

impl From<&Progress> for DrainView {
    fn from(progress: &Progress) -> Self {
        let left = progress.left.all;
        let waiting = progress.left.waiting.iter().map(|(obstacle, amount)| Waiting {
            reason: obstacle.to_string(),
            fragments: amount.fragments,
            bytes: amount.bytes,
        });
        Self {
            subject: Subject(progress.subject).to_string(),
            began: rfc3339(progress.began),
            over: progress.is_over(),
            fragments_left: left.fragments,
            bytes_left: left.bytes,
            seats_left: progress.seats_left,
            fragments_moved: progress.moved.fragments,
            bytes_moved: progress.moved.bytes,
            bytes_per_second: progress.rate_bytes_per_s,
            left_seconds: progress.time_left().map(|left| left.as_secs()),
            waiting: waiting.collect(),
        }
    }
}

/// A subject as it stands in paths and on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subject(pub DrainSubject);

/// What is no subject.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{found:?} is neither a node, such as node-3, nor a drive, which has 32 hexadecimal digits")]
pub struct NoSubject {
    /// As it was given.
    pub found: String,
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            DrainSubject::Node(node) => write!(f, "node-{}", node.get()),
            DrainSubject::Drive(drive) => write!(f, "{:032x}", drive.get()),
        }
    }
}

impl FromStr for Subject {
    type Err = NoSubject;

    fn from_str(text: &str) -> Result<Self, NoSubject> {
        let other = || NoSubject { found: text.to_owned() };
        // No signs and no second form: what is printed is what is taken.
        let subject = match text.strip_prefix("node-") {
            Some(number) => DrainSubject::Node(NodeId::new(number.parse().map_err(|_| other())?)),
            None if text.len() == 32 => {
                DrainSubject::Drive(DriveId::new(u128::from_str_radix(text, 16).map_err(|_| other())?))
            }
            None => return Err(other()),
        };
        let subject = Self(subject);
        (subject.to_string() == text).then_some(subject).ok_or_else(other)
    }
}

/// All drains, also those that are over.
#[utoipa::path(
    get, path = "/v1/drains", tag = "drains",
    responses(
        (status = 200, description = "The drains", body = Vec<DrainView>),
        (status = 503, description = "A group does not answer", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn list(State(node): State<Arc<Node>>) -> Result<Json<Vec<DrainView>>, Problem> {
    let mut views = Vec::new();
    for subject in node.drains().await?.into_keys() {
        match node.drain_progress(subject).await {
            Ok(progress) => views.push(DrainView::from(&progress)),
            // Ended in between.
            Err(DrainError::NotBegun) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(Json(views))
}

/// One drain.
#[utoipa::path(
    get, path = "/v1/drains/{subject}", tag = "drains",
    params(("subject" = String, Path, description = "`node-3`, or a drive's 32 hexadecimal digits")),
    responses(
        (status = 200, description = "The drain", body = DrainView),
        (status = 400, description = "No subject", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "No such drain", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "A group does not answer", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn show(
    State(node): State<Arc<Node>>,
    NamePath(name): NamePath,
) -> Result<Json<DrainView>, Problem> {
    Ok(Json(DrainView::from(&node.drain_progress(subject(&name)?).await?)))
}

/// Have a node or a drive emptied: whatever it holds is made elsewhere, and it gets nothing new. Remembered over restarts, until it is ended.
#[utoipa::path(
    put, path = "/v1/drains/{subject}", tag = "drains",
    params(("subject" = String, Path, description = "`node-3`, or a drive's 32 hexadecimal digits")),
    responses(
        (status = 200, description = "The drain", body = DrainView),
        (status = 400, description = "No subject", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "No such node or drive", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "A group does not answer", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn begin(
    State(node): State<Arc<Node>>,
    NamePath(name): NamePath,
) -> Result<Json<DrainView>, Problem> {
    let subject = subject(&name)?;
    node.begin_drain(subject).await?;
    Ok(Json(DrainView::from(&node.drain_progress(subject).await?)))
}

/// End a drain, be it over or not: the node or drive is used again. What was moved stays where it is. Gives the drains that are left.
#[utoipa::path(
    delete, path = "/v1/drains/{subject}", tag = "drains",
    params(("subject" = String, Path, description = "`node-3`, or a drive's 32 hexadecimal digits")),
    responses(
        (status = 200, description = "The drains that are left", body = Vec<DrainView>),
        (status = 400, description = "No subject", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "No such drain", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "A group does not answer", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn end(
    State(node): State<Arc<Node>>,
    NamePath(name): NamePath,
) -> Result<Json<Vec<DrainView>>, Problem> {
    let subject = subject(&name)?;
    if !node.drains().await?.contains_key(&subject) {
        return Err(DrainError::NotBegun.into());
    }
    node.end_drain(subject).await?;
    list(State(node)).await
}

fn subject(name: &str) -> Result<DrainSubject, Problem> {
    let subject: Result<Subject, NoSubject> = name.parse();
    subject.map(|Subject(subject)| subject).map_err(|error| {
        let problem = Problem::new(Sort::BadInput, format!("{error}; `GET /v1/cluster` lists both"));
        problem.with_field("subject").with_expected("node-N, or a drive's 32 hexadecimal digits")
    })
}

impl From<DrainError> for Problem {
    fn from(error: DrainError) -> Self {
        let sort = match &error {
            DrainError::Meta(_) | DrainError::Misfit => Sort::Unavailable,
            DrainError::NoSuchNode { .. } | DrainError::Dismissed { .. } => Sort::UnknownNode,
            DrainError::NoSuchDrive { .. } => Sort::UnknownDrive,
            DrainError::Full => Sort::Busy,
            DrainError::NotBegun => Sort::UnknownDrain,
        };
        Self::new(sort, error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::Subject;
    use strongroom_types::{DrainSubject, DriveId, NodeId};

    #[test]
    fn a_subject_is_what_is_printed_and_nothing_else() {
        for subject in [DrainSubject::Node(NodeId::new(3)), DrainSubject::Drive(DriveId::new(0xab))] {
            let text = Subject(subject).to_string();
            assert_eq!(text.parse(), Ok(Subject(subject)), "{text}");
        }
        for text in
            ["", "3", "node", "node-", "node-x", "node-+3", "node-03", "node-3 ", "zz", &"AB".repeat(16)]
        {
            assert!(text.parse::<Subject>().is_err(), "{text:?}");
        }
    }
}
