//! Space of deleted objects, asked back by command.

use super::jobs::{body, store, told};
use super::support::{BUCKET, World, get, until};
use serde_json::json;
use strongroom::demo::watch;

#[tokio::test]
async fn what_was_deleted_gives_its_space_back_when_asked_to_and_nothing_else_goes() {
    let world = World::start().await;
    store(&world).await;
    let full = watch::bytes_used(&world.cluster).await.unwrap();
    let kept = 3;
    for index in 0..super::jobs::OBJECTS {
        if index != kept {
            let key = format!("object/{index}");
            world.client().delete_object().bucket(BUCKET).key(key).send().await.unwrap();
        }
    }
    let (mut would, mut slabs, mut needles) = (0, 0, 0);
    for node in world.nodes() {
        would += told(&world, node, &["compact", "--dry-run"])["slabs"].as_u64().unwrap();
    }
    assert!(would > 0, "most is garbage");
    for node in world.nodes() {
        let done = told(&world, node, &["compact", "--wait"]);
        assert_eq!(done["state"], "done", "{done}");
        slabs += done["report"]["slabs"].as_u64().unwrap();
        needles += done["report"]["needles"].as_u64().unwrap();
        assert_eq!(told(&world, node, &["compact", "--dry-run"])["slabs"], json!(0));
    }
    assert!(slabs >= would && needles >= 1, "{slabs} of {would} slabs, {needles} needles");
    until("the drives have it back", async || {
        let used = watch::bytes_used(&world.cluster).await.map_err(|error| error.to_string())?;
        if used * 2 < full {
            return Ok(());
        }
        // A run is for the groups that its node leads: one that changed its leader meanwhile was nobody's.
        for node in world.nodes() {
            let done = told(&world, node, &["compact", "--wait"]);
            slabs += done["report"]["slabs"].as_u64().unwrap();
        }
        Err(format!("{used} of {full} bytes, after {slabs} slabs of {would}"))
    })
    .await;
    let found = get(&world.client(), &format!("object/{kept}")).await.unwrap().unwrap();
    assert!(found == body(kept));
    assert_eq!(get(&world.client(), "object/0").await.unwrap(), None);
}
