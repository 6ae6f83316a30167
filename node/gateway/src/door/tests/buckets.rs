use super::*;
use crate::xml::Element;

#[tokio::test]
async fn buckets_are_made_listed_and_removed() {
    let world = World::with_buckets().await;
    // Alike again: no error. Another class: refused. No class asked for: one's own already.
    let class = |class: &'static str| [("x-strongroom-class", class)];
    assert_eq!(world.send("PUT", "/mail", &[], b"").await.status, StatusCode::OK);
    assert_eq!(world.send("PUT", "/config", &class("config"), b"").await.status, StatusCode::OK);
    assert_eq!(world.send("PUT", "/mail", &class("config"), b"").await.code(), "BucketAlreadyExists");
    assert_eq!(world.send("PUT", "/config", &[], b"").await.code(), "BucketAlreadyOwnedByYou");
    assert_eq!(world.send("PUT", "/other", &class("disk"), b"").await.code(), "InvalidArgument");
    let location = b"<CreateBucketConfiguration xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">\
        <LocationConstraint>eu-west-1</LocationConstraint></CreateBucketConfiguration>";
    assert_eq!(world.send("PUT", "/third", &[], location).await.status, StatusCode::OK);
    assert_eq!(world.send("PUT", "/fourth", &[], b"<Other/>").await.code(), "MalformedXML");
    assert_eq!(
        world
            .send("PUT", "/fourth", &[], b"<CreateBucketConfiguration><Tags/></CreateBucketConfiguration>")
            .await
            .code(),
        "NotImplemented"
    );

    let head = world.send("HEAD", "/config", &[], b"").await;
    assert_eq!(
        (head.header("x-strongroom-class"), head.header("x-amz-bucket-region")),
        ("config", "us-east-1")
    );
    assert_eq!(world.send("HEAD", "/nowhere", &[], b"").await.status, StatusCode::NOT_FOUND);

    let names = |root: &Element| -> Vec<String> {
        let buckets = root.children.iter().find(|child| child.name == "Buckets").unwrap();
        buckets.children.iter().map(|bucket| bucket.child_text("Name").unwrap().to_owned()).collect()
    };
    assert_eq!(names(&world.send("GET", "/", &[], b"").await.xml()), ["config", "mail", "third"]);
    let page = world.send("GET", "/?max-buckets=2", &[], b"").await.xml();
    let token = page.child_text("ContinuationToken").unwrap();
    assert_eq!(names(&page), ["config", "mail"]);
    let rest =
        world.send("GET", &format!("/?max-buckets=2&continuation-token={token}"), &[], b"").await.xml();
    assert_eq!((names(&rest), rest.child_text("ContinuationToken")), (vec!["third".to_owned()], None));
    assert_eq!(names(&world.send("GET", "/?prefix=m", &[], b"").await.xml()), ["mail"]);

    world.send("PUT", "/third/k", &[], b"").await;
    assert_eq!(world.send("DELETE", "/third", &[], b"").await.code(), "BucketNotEmpty");
    world.send("DELETE", "/third/k", &[], b"").await;
    assert_eq!(world.send("DELETE", "/third", &[], b"").await.status, StatusCode::NO_CONTENT);
    assert_eq!(world.send("DELETE", "/third", &[], b"").await.code(), "NoSuchBucket");
}

#[tokio::test]
async fn facts_are_honest() {
    let world = World::with_buckets().await;
    assert_eq!(world.send("GET", "/mail?location", &[], b"").await.xml().text, "");
    assert_eq!(world.send("GET", "/mail?versioning", &[], b"").await.xml().child_text("Status"), None);
    assert_eq!(
        world.send("GET", "/config?versioning", &[], b"").await.xml().child_text("Status"),
        Some("Enabled")
    );
    for target in ["/mail?acl", "/mail/k?acl"] {
        world.send("PUT", "/mail/k", &[], b"").await;
        let acl = world.send("GET", target, &[], b"").await.xml();
        let grant = &acl.children.iter().find(|child| child.name == "AccessControlList").unwrap().children[0];
        assert_eq!(grant.child_text("Permission"), Some("FULL_CONTROL"));
    }
    assert_eq!(world.send("GET", "/mail/absent?acl", &[], b"").await.code(), "NoSuchKey");
    assert_eq!(world.send("GET", "/mail?policy", &[], b"").await.code(), "NoSuchBucketPolicy");
    assert_eq!(world.send("GET", "/nowhere?location", &[], b"").await.code(), "NoSuchBucket");
}

#[tokio::test]
async fn virtual_hosts_name_buckets() {
    let mut world = World::with_buckets().await;
    world.client.host = "mail.s3.example.org:9000".to_owned();
    assert_eq!(world.send("PUT", "/a/b", &[], b"x").await.status, StatusCode::OK);
    world.client.host = "s3.example.org".to_owned();
    assert_eq!(world.read("/mail/a/b").await, Some(b"x".to_vec()));
}
