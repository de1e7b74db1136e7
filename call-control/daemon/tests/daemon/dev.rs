//! `--dev` over a database that was used before.
use crate::stage::{Stage, TRUNK};
use offhook_control::admin::{UserEdit, UserWish};
use offhook_control_core::RecordingMode;
use serde_json::{Value, json};

async fn one_click(stage: &Stage) -> Vec<(String, String)> {
    let users: Value = stage.http.get(stage.url("/v1/dev/users")).send().await.unwrap().json().await.unwrap();
    let word = |u: &Value, key: &str| u[key].as_str().unwrap().to_owned();
    users["data"].as_array().unwrap().iter().map(|u| (word(u, "login"), word(u, "extension"))).collect()
}

fn pair(login: &str, extension: &str) -> (String, String) {
    (login.to_owned(), extension.to_owned())
}

#[tokio::test]
async fn a_disabled_user_stays_disabled_and_is_named() {
    let mut stage = Stage::new().await;
    let (admin, dev) = (stage.admin().await, offhook_contract::TenantId::parse("dev").unwrap());
    let disabled = |yes| UserEdit { disabled: Some(yes), ..UserEdit::default() };
    for login in ["alice", "bob"] {
        admin.change_user(&dev, login, disabled(true)).await.unwrap();
    }
    stage.kill();
    stage.restart().await;
    assert!(one_click(&stage).await.is_empty());
    let banner = stage.banner();
    for line in ["Alice, extension 101: disabled", "Bob, extension 102: disabled"] {
        assert!(banner.iter().any(|said| said.starts_with(line)), "{banner:?}");
    }
    assert!(banner.iter().any(|said| said.contains("offhook user set --tenant dev bob --enable")), "{banner:?}");
    admin.change_user(&dev, "bob", disabled(false)).await.unwrap();
    assert_eq!(one_click(&stage).await, [pair("bob", "102")]);
}

#[tokio::test]
async fn a_login_that_another_tenant_has_is_no_obstacle() {
    let mut stage = Stage::without_dev(TRUNK).await;
    let admin = stage.admin().await;
    let acme = admin.add_tenant("acme", "Acme", RecordingMode::Off).await.unwrap().id;
    let alice = UserWish {
        login: "alice".into(),
        name: "Alice of Acme".into(),
        extension: "101".into(),
        password: None,
        admin: false,
    };
    admin.add_user(&acme, alice).await.unwrap();
    stage.kill();
    stage.restart_as_dev().await;
    assert_eq!(one_click(&stage).await, [pair("alice-dev", "101"), pair("bob", "102")]);
    assert_eq!(stage.post("", "/v1/dev/sign-in", json!({ "login": "alice" })).await.0, 404);
    let banner = stage.banner();
    assert!(banner.iter().any(|said| said.starts_with("Alice, extension 101: signs in with one click")), "{banner:?}");
}
