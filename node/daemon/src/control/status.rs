//! What the node and its cluster are, over the control socket; and the one thing that is made there, a bucket.

use super::input::{NamePath, Query};
use super::jobs::unknown_drive;
use super::problem::{Problem, Sort};
use crate::node::Node;
use crate::status::{ClusterStatus, DriveStatus, NodeStatus};
use axum::Json;
use axum::extract::State;
use http::StatusCode;
use serde::Deserialize;
use std::sync::Arc;
use strongroom_gateway::store::{ObjectStore, StoreError};
use strongroom_types::{BucketClass, BucketName};
use utoipa::IntoParams;

/// What this node is, has and sees.
#[utoipa::path(
    get, path = "/v1/status", tag = "status",
    responses((status = 200, description = "The node", body = NodeStatus))
)]
pub(super) async fn node(State(node): State<Arc<Node>>) -> Json<NodeStatus> {
    Json(node.status())
}

/// The cluster: zones, nodes, drives and groups as this node sees them, and all slabs by what they survive, asked from the slab tables.
#[utoipa::path(
    get, path = "/v1/cluster", tag = "status",
    responses((status = 200, description = "The cluster", body = ClusterStatus))
)]
pub(super) async fn cluster(State(node): State<Arc<Node>>) -> Json<ClusterStatus> {
    Json(node.cluster().await)
}

/// The drives of this node.
#[utoipa::path(
    get, path = "/v1/drives", tag = "status",
    responses((status = 200, description = "The drives", body = Vec<DriveStatus>))
)]
pub(super) async fn drives(State(node): State<Arc<Node>>) -> Json<Vec<DriveStatus>> {
    Json(node.status().drives)
}

/// One drive of this node.
#[utoipa::path(
    get, path = "/v1/drives/{drive}", tag = "status",
    params(("drive" = String, Path, description = "Its id: 32 hexadecimal digits")),
    responses(
        (status = 200, description = "The drive", body = DriveStatus),
        (status = 404, description = "No such drive here", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn drive(
    State(node): State<Arc<Node>>,
    NamePath(name): NamePath,
) -> Result<Json<DriveStatus>, Problem> {
    let found = node.status().drives.into_iter().find(|drive| drive.drive == name);
    found.map(Json).ok_or_else(|| unknown_drive(&name))
}

/// Whether the process answers: for whoever restarts what hangs.
#[utoipa::path(
    get, path = "/v1/live", tag = "health",
    responses((status = 200, description = "It does", body = bool))
)]
pub(super) async fn live() -> Json<bool> {
    Json(true)
}

/// Whether the node serves: for a load balancer.
#[utoipa::path(
    get, path = "/v1/ready", tag = "health",
    responses(
        (status = 200, description = "It does", body = bool),
        (status = 503, description = "It does not, and why", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn ready(State(node): State<Arc<Node>>) -> Result<Json<bool>, Problem> {
    let status = node.status();
    match status.ready {
        true => Ok(Json(true)),
        false => Err(Problem::new(Sort::NotReady, status.not_ready_because.join("; "))),
    }
}

/// What a bucket is for.
#[derive(Clone, Copy, Debug, Default, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum Class {
    /// Immutable objects, erasure-coded.
    #[default]
    Mail,
    /// Small values that change, with versions.
    Config,
}

/// How a bucket is made.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct BucketQuery {
    /// What it is for; fixed from then on.
    #[serde(default)]
    #[param(inline, required = false)]
    class: Class,
}

/// Make a bucket.
#[utoipa::path(
    post, path = "/v1/buckets/{name}", tag = "buckets",
    params(("name" = String, Path, description = "3 to 63 of a-z, 0-9, '-' and '.'"), BucketQuery),
    responses(
        (status = 201, description = "It is there", body = String),
        (status = 400, description = "Bad input", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "It was there already", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "The cluster does not answer now", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn create_bucket(
    State(node): State<Arc<Node>>,
    NamePath(name): NamePath,
    Query(query): Query<BucketQuery>,
) -> Result<(StatusCode, Json<String>), Problem> {
    let name = BucketName::new(&name).map_err(|error| {
        let problem = Problem::new(Sort::BadInput, format!("{name:?}: {error}")).with_field("name");
        problem.with_expected("3 to 63 of a-z, 0-9, '-' and '.'")
    })?;
    let class = match query.class {
        Class::Mail => BucketClass::Mail,
        Class::Config => BucketClass::Config,
    };
    match node.store().create_bucket(name, class).await {
        Ok(info) => Ok((StatusCode::CREATED, Json(info.name.as_str().to_owned()))),
        Err(error @ (StoreError::BucketExists(_) | StoreError::BucketClassDiffers(_))) => {
            Err(Problem::new(Sort::BucketExists, error.to_string()).with_field("name"))
        }
        Err(error) => Err(Problem::new(Sort::Unavailable, error.to_string())),
    }
}
