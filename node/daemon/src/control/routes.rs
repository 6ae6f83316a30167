//! Which path is answered by what, and the description of it: both are made of the same list.

use super::events::Streams;
use super::input::check_said_length;
use super::problem::{Problem, Sort};
use super::{drains, events, jobs, metrics, nodes, status};
use crate::node::Node;
use axum::extract::{FromRef, Request, State};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use axum::{Json, Router, routing};
use http::{Method, Uri};
use std::sync::Arc;
use utoipa::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// What answers work with.
#[derive(Clone)]
struct Served {
    node: Arc<Node>,
    streams: Streams,
    description: Arc<utoipa::openapi::OpenApi>,
}

impl FromRef<Served> for Arc<Node> {
    fn from_ref(served: &Served) -> Self {
        served.node.clone()
    }
}

impl FromRef<Served> for Streams {
    fn from_ref(served: &Served) -> Self {
        served.streams.clone()
    }
}

#[derive(OpenApi)]
#[openapi(info(
    title = "Strongroom: a node's control socket",
    description = "HTTP/1.1 and JSON on a Unix socket. Every refusal is a problem body (RFC 9457) and changes nothing."
))]
struct Description;

/// This description.
#[utoipa::path(
    get, path = "/v1/openapi.json", tag = "status",
    responses((status = 200, description = "OpenAPI", body = Object))
)]
async fn openapi(State(served): State<Served>) -> Json<utoipa::openapi::OpenApi> {
    Json(served.description.as_ref().clone())
}

fn described() -> OpenApiRouter<Served> {
    OpenApiRouter::with_openapi(Description::openapi())
        .routes(routes!(status::node))
        .routes(routes!(status::cluster))
        .routes(routes!(status::drives))
        .routes(routes!(status::drive))
        .routes(routes!(status::live))
        .routes(routes!(status::ready))
        .routes(routes!(status::create_bucket))
        .routes(routes!(jobs::list, jobs::start))
        .routes(routes!(jobs::show))
        .routes(routes!(jobs::pause))
        .routes(routes!(jobs::resume))
        .routes(routes!(jobs::cancel))
        .routes(routes!(jobs::pace))
        .routes(routes!(drains::list))
        .routes(routes!(drains::show, drains::begin, drains::end))
        .routes(routes!(nodes::dismiss))
        .routes(routes!(events::events))
        .routes(routes!(metrics::metrics))
        .routes(routes!(openapi))
}

/// Everything that the control socket answers.
pub(super) fn control(node: Arc<Node>) -> Router {
    let (router, description) = described().split_for_parts();
    let served = Served { node, streams: Streams::default(), description: Arc::new(description) };
    refusing(router).with_state(served)
}

/// What is answered over TCP: metrics and health, and nothing that changes anything.
pub(super) fn scraped(node: Arc<Node>) -> Router {
    let router = Router::new()
        .route("/metrics", routing::get(metrics::metrics))
        .route("/live", routing::get(status::live))
        .route("/ready", routing::get(status::ready));
    refusing(router).with_state(node)
}

/// With words for what is not answered.
fn refusing<S: Clone + Send + Sync + 'static>(router: Router<S>) -> Router<S> {
    // The last, since it is for all routes that are there.
    router.fallback(no_such_path).method_not_allowed_fallback(wrong_method).layer(from_fn(bounded))
}

async fn no_such_path(uri: Uri) -> Problem {
    Problem::new(
        Sort::NoSuchPath,
        format!(
            "there is nothing at {}: `GET /v1/openapi.json` on the control socket describes all that there is",
            uri.path()
        ),
    )
}

async fn wrong_method(method: Method, uri: Uri) -> Problem {
    let detail = format!("{} does not take {method}: the header `allow` says what it takes", uri.path());
    Problem::new(Sort::WrongMethod, detail)
}

/// A body that is said to be too long is refused before anything else is looked at, also where none is wanted.
async fn bounded(request: Request, next: Next) -> Response {
    match check_said_length(request).await {
        Ok(request) => next.run(request).await,
        Err(problem) => problem.into_response(),
    }
}

#[cfg(test)]
mod tests {
    use super::described;
    use crate::control::problem::PROBLEM_TYPE;

    #[test]
    fn the_description_names_every_path_with_words_and_every_answer_with_a_schema() {
        let description = serde_json::to_value(described().into_openapi()).unwrap();
        let paths = description["paths"].as_object().unwrap();
        let names: Vec<&str> = paths.keys().map(String::as_str).collect();
        assert_eq!(
            names,
            [
                "/v1/buckets/{name}",
                "/v1/cluster",
                "/v1/drains",
                "/v1/drains/{subject}",
                "/v1/drives",
                "/v1/drives/{drive}",
                "/v1/events",
                "/v1/jobs",
                "/v1/jobs/{id}",
                "/v1/jobs/{id}/cancel",
                "/v1/jobs/{id}/pace",
                "/v1/jobs/{id}/pause",
                "/v1/jobs/{id}/resume",
                "/v1/live",
                "/v1/metrics",
                "/v1/nodes/{node}",
                "/v1/openapi.json",
                "/v1/ready",
                "/v1/status",
            ]
        );
        let schemas = description["components"]["schemas"].as_object().unwrap();
        for (path, operations) in paths {
            for (method, operation) in operations.as_object().unwrap() {
                let words = operation["summary"].as_str().or(operation["description"].as_str());
                assert!(words.is_some_and(|words| !words.is_empty()), "{method} {path}");
                for (status, answer) in operation["responses"].as_object().unwrap() {
                    let content = answer["content"].as_object();
                    assert!(content.is_some_and(|content| !content.is_empty()), "{method} {path} {status}");
                    if status.starts_with('4') || status.starts_with('5') {
                        assert!(answer["content"][PROBLEM_TYPE].is_object(), "{method} {path} {status}");
                    }
                }
            }
        }
        // Every schema that is named is there.
        let text = description.to_string();
        for named in text.split("#/components/schemas/").skip(1) {
            let name = named.split('"').next().unwrap();
            assert!(schemas.contains_key(name), "{name} is not described");
        }
    }
}
