//! Jobs over the control socket.

use super::input::{JobPath, JsonBody};
use super::problem::{Problem, Sort};
use crate::jobs::{BeginError, ControlError, DriveName, Estimate, JobView, Kind, Order};
use crate::node::Node;
use crate::runs::{EstimateError, Run};
use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use serde::{Deserialize, Serialize};
use std::num::NonZeroU64;
use std::sync::Arc;
use utoipa::ToSchema;

/// What is asked for.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct StartJob {
    /// What is to be done.
    pub kind: Kind,
    /// Only tell what it would do.
    #[serde(default)]
    pub dry_run: bool,
    /// The drive of this node that it is about, for kinds that are about one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drive: Option<DriveName>,
}

/// How fast a job may go.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SetPace {
    /// Bytes a second at most; null for as many as can be.
    #[schema(value_type = Option<u64>, minimum = 1)]
    pub bytes_per_second: Option<NonZeroU64>,
}

/// All jobs of the node, by id: the standing ones, runs under way, and the last ones that have ended.
#[utoipa::path(
    get, path = "/v1/jobs", tag = "jobs",
    responses((status = 200, description = "The jobs", body = Vec<JobView>))
)]
pub(super) async fn list(State(node): State<Arc<Node>>) -> Json<Vec<JobView>> {
    Json(node.jobs().all())
}

/// One job.
#[utoipa::path(
    get, path = "/v1/jobs/{id}", tag = "jobs",
    params(("id" = u64, Path, description = "Its id")),
    responses(
        (status = 200, description = "The job", body = JobView),
        (status = 404, description = "No such job", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn show(
    State(node): State<Arc<Node>>,
    JobPath(id): JobPath,
) -> Result<Json<JobView>, Problem> {
    Ok(Json(node.jobs().one(id)?))
}

/// Begin a run, or only tell what it would do.
#[utoipa::path(
    post, path = "/v1/jobs", tag = "jobs", request_body = StartJob,
    responses(
        (status = 202, description = "It is under way", body = JobView),
        (status = 200, description = "A dry run: what it would do; nothing was begun", body = Estimate),
        (status = 400, description = "Bad input", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "Another run is in its way", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "Too many runs, or a slab table does not answer", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn start(
    State(node): State<Arc<Node>>,
    JsonBody(asked): JsonBody<StartJob>,
) -> Result<Response, Problem> {
    let run = run_of(&node, &asked)?;
    if asked.dry_run {
        return Ok(Json(node.runs().estimate(run).await?).into_response());
    }
    let job = node.runs().begin(run)?;
    let location = HeaderValue::try_from(format!("/v1/jobs/{}", job.id)).expect("a number is ASCII");
    Ok((StatusCode::ACCEPTED, [(header::LOCATION, location)], Json(job)).into_response())
}

/// What is asked for, as a run.
fn run_of(node: &Node, asked: &StartJob) -> Result<Run, Problem> {
    if let Some(drive) = asked.drive {
        node.holder().drive(drive.get()).map_err(|_| unknown_drive(&drive.to_string()))?;
    }
    let run = match asked.kind {
        Kind::Scrub => return Ok(Run::Scrub(asked.drive)),
        Kind::Seal => Run::Seal,
        Kind::Convert => Run::Convert,
        Kind::Repair => Run::Repair,
        Kind::Compact => Run::Compact,
        Kind::Reconcile | Kind::Sweep | Kind::Drain | Kind::Parity => {
            let detail =
                format!("{} is not begun by order: seal, convert, repair, scrub and compact are", asked.kind);
            let problem = Problem::new(Sort::BadInput, detail).with_field("kind");
            return Err(problem.with_expected("seal, convert, repair, scrub or compact"));
        }
    };
    match asked.drive {
        None => Ok(run),
        Some(_) => {
            let detail = format!("{} is not about a single drive: leave `drive` out", asked.kind);
            Err(Problem::new(Sort::BadInput, detail).with_field("drive").with_expected("nothing"))
        }
    }
}

/// The refusal of a drive that this node does not have.
pub(super) fn unknown_drive(drive: &str) -> Problem {
    let detail = format!("this node has no drive {drive}: `GET /v1/drives` lists those that it has");
    Problem::new(Sort::UnknownDrive, detail).with_field("drive")
}

/// Pause a job: it begins nothing more until it is resumed. What is under way goes on.
#[utoipa::path(
    post, path = "/v1/jobs/{id}/pause", tag = "jobs",
    params(("id" = u64, Path, description = "Its id")),
    responses(
        (status = 200, description = "The job as it is now", body = JobView),
        (status = 404, description = "No such job", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "It has ended", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn pause(
    State(node): State<Arc<Node>>,
    JobPath(id): JobPath,
) -> Result<Json<JobView>, Problem> {
    Ok(Json(node.jobs().order(id, Order::Pause)?))
}

/// Let a paused job go on.
#[utoipa::path(
    post, path = "/v1/jobs/{id}/resume", tag = "jobs",
    params(("id" = u64, Path, description = "Its id")),
    responses(
        (status = 200, description = "The job as it is now", body = JobView),
        (status = 404, description = "No such job", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "It has ended", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn resume(
    State(node): State<Arc<Node>>,
    JobPath(id): JobPath,
) -> Result<Json<JobView>, Problem> {
    Ok(Json(node.jobs().order(id, Order::Resume)?))
}

/// End a run. Standing jobs do not end; pause them.
#[utoipa::path(
    post, path = "/v1/jobs/{id}/cancel", tag = "jobs",
    params(("id" = u64, Path, description = "Its id")),
    responses(
        (status = 202, description = "It ends soon", body = JobView),
        (status = 404, description = "No such job", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "It has ended, or is a standing job", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn cancel(
    State(node): State<Arc<Node>>,
    JobPath(id): JobPath,
) -> Result<(StatusCode, Json<JobView>), Problem> {
    Ok((StatusCode::ACCEPTED, Json(node.jobs().order(id, Order::Cancel)?)))
}

/// Limit how many bytes a second a job moves, or lift the limit.
#[utoipa::path(
    post, path = "/v1/jobs/{id}/pace", tag = "jobs", request_body = SetPace,
    params(("id" = u64, Path, description = "Its id")),
    responses(
        (status = 200, description = "The job as it is now", body = JobView),
        (status = 400, description = "Bad input", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "No such job", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "It has ended, or moves no bytes", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn pace(
    State(node): State<Arc<Node>>,
    JobPath(id): JobPath,
    JsonBody(asked): JsonBody<SetPace>,
) -> Result<Json<JobView>, Problem> {
    Ok(Json(node.jobs().order(id, Order::Pace(asked.bytes_per_second))?))
}

impl From<ControlError> for Problem {
    fn from(error: ControlError) -> Self {
        let sort = match error {
            ControlError::NoSuchJob { .. } => Sort::UnknownJob,
            ControlError::Ended { .. } | ControlError::Standing { .. } | ControlError::NotPaced { .. } => {
                Sort::NotPossible
            }
        };
        Self::new(sort, error.to_string()).with_field("id")
    }
}

impl From<BeginError> for Problem {
    fn from(error: BeginError) -> Self {
        let sort = match error {
            BeginError::Conflict { .. } => Sort::Conflict,
            BeginError::TooMany { .. } => Sort::Busy,
        };
        Self::new(sort, error.to_string())
    }
}

impl From<EstimateError> for Problem {
    fn from(error: EstimateError) -> Self {
        match error {
            EstimateError::Begin(error) => error.into(),
            error @ EstimateError::Unseen { .. } => {
                Self::new(Sort::Unavailable, format!("{error}; try again in a moment"))
            }
            EstimateError::Survey(error) => {
                Self::new(Sort::Unavailable, format!("{error}; try again in a moment"))
            }
        }
    }
}
