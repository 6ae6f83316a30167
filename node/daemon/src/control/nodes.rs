//! Which nodes take part, over the control socket: any node may be asked, but for the one that is to go.

use super::drains::Subject;
use super::input::{NamePath, Query};
use super::problem::{Problem, Sort};
use crate::dismissal::{DismissError, LastCopies};
use crate::node::Node;
use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use strongroom_types::{DrainSubject, NodeId};
use utoipa::{IntoParams, ToSchema};

/// A node that takes part never again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DismissedView {
    /// Which, such as `node-3`.
    pub dismissed: String,
}

/// What a dismissal may do.
#[derive(Clone, Copy, Debug, Default, Deserialize, IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct DismissQuery {
    /// Lose what only a node has that is dead.
    lose_data: bool,
}

/// Dismiss a node for good: nobody takes part under its id again, and its process ends. One that lives must have been drained; what a dead one held (silent to
/// all for ten seconds) is made again elsewhere, and where that cannot be it is refused, unless `lose_data` says otherwise. Asking again changes nothing.
#[utoipa::path(
    delete, path = "/v1/nodes/{node}", tag = "nodes",
    params(("node" = String, Path, description = "Such as `node-3`"), DismissQuery),
    responses(
        (status = 200, description = "It is dismissed", body = DismissedView),
        (status = 400, description = "No node", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "No such node", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "It lives, and holds fragments, votes, or is not drained; it is dead, and has what nobody else has; or it is the one that is asked", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "A group does not answer", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn dismiss(
    State(node): State<Arc<Node>>,
    NamePath(name): NamePath,
    Query(query): Query<DismissQuery>,
) -> Result<Json<DismissedView>, Problem> {
    let dismissed = node_of(&name)?;
    let last_copies = if query.lose_data { LastCopies::Lose } else { LastCopies::Keep };
    node.dismiss(dismissed, last_copies).await?;
    Ok(Json(DismissedView { dismissed: Subject(DrainSubject::Node(dismissed)).to_string() }))
}

fn node_of(name: &str) -> Result<NodeId, Problem> {
    match name.parse() {
        Ok(Subject(DrainSubject::Node(node))) => Ok(node),
        Ok(Subject(DrainSubject::Drive(_))) | Err(_) => {
            let detail = format!("{name:?} is no node, such as node-3: `GET /v1/cluster` lists them");
            Err(Problem::new(Sort::BadInput, detail).with_field("node").with_expected("node-N"))
        }
    }
}

impl From<DismissError> for Problem {
    fn from(error: DismissError) -> Self {
        let sort = match &error {
            DismissError::NoSuchNode { .. } => Sort::UnknownNode,
            DismissError::Itself { .. }
            | DismissError::StillHolds { .. }
            | DismissError::StillVotes { .. }
            | DismissError::NotDrained { .. }
            | DismissError::WouldLose { .. } => Sort::NodeInUse,
            DismissError::Meta(_) | DismissError::Misfit => Sort::Unavailable,
        };
        Self::new(sort, error.to_string())
    }
}
