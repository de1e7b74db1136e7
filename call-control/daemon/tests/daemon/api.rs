//! The HTTP API: signing in, who may see what, and hostile input at its door.
use crate::stage::{Stage, TRUNK};
use offhook_control::{Access, ROUTES, admin::UserWish};
use offhook_control_core::RecordingMode;
use reqwest::StatusCode;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

async fn carol(stage: &Stage) -> offhook_contract::TenantId {
    let admin = stage.admin().await;
    let tenant = admin.add_tenant("acme", "Acme", RecordingMode::Off).await.unwrap().id;
    let wish = UserWish {
        login: "carol".into(),
        name: "Carol".into(),
        extension: "103".into(),
        password: Some("correct horse".into()),
        admin: false,
    };
    admin.add_user(&tenant, wish).await.unwrap();
    tenant
}

async fn sign_in(stage: &Stage, login: &str, password: &str) -> (StatusCode, Value) {
    let body = json!({ "login": login, "password": password });
    let response = stage.http.post(stage.url("/v1/sign-in")).json(&body).send().await.unwrap();
    (response.status(), response.json().await.unwrap())
}

#[tokio::test]
async fn a_password_opens_a_wrong_one_and_an_unknown_login_are_answered_alike() {
    let stage = Stage::new().await;
    carol(&stage).await;
    let (status, tokens) = sign_in(&stage, "carol", "correct horse").await;
    assert_eq!((status, tokens["expires_in_s"].as_u64()), (StatusCode::OK, Some(600)));
    let (status, me) = stage.get(tokens["access_token"].as_str().unwrap(), "/v1/me").await;
    assert_eq!((status, &me["user"]["extension"], &me["tenant"]["id"]), (200, &json!("103"), &json!("acme")));
    assert_eq!(me["features"], json!({ "emergency_calls": false, "recording": "off", "outbound_calls": false }));
    let wrong = sign_in(&stage, "carol", "correct hors").await;
    let unknown = sign_in(&stage, "nobody", "correct horse").await;
    assert_eq!((wrong.0, &wrong), (StatusCode::UNAUTHORIZED, &unknown));
    assert_eq!(wrong.1["code"], "unauthorized");
    assert_eq!(sign_in(&stage, "alice", "").await.0, StatusCode::UNAUTHORIZED, "dev users have no password");
}

#[tokio::test]
async fn a_refresh_token_is_exchanged_and_signing_out_ends_it() {
    let stage = Stage::new().await;
    let first = stage.sign_in("alice").await;
    let refresh = async |token: &Value| {
        let body = json!({ "refresh_token": token });
        let response = stage.http.post(stage.url("/v1/refresh")).json(&body).send().await.unwrap();
        (response.status().as_u16(), response.json::<Value>().await.unwrap())
    };
    let (status, second) = refresh(&first["refresh_token"]).await;
    assert_eq!(status, 200);
    assert_ne!(first["refresh_token"], second["refresh_token"]);
    assert_eq!(refresh(&json!("made up")).await.0, 401);
    assert_eq!(refresh(&first["access_token"]).await.0, 401);
    let out = json!({ "refresh_token": second["refresh_token"] });
    let (status, _) = stage.post(second["access_token"].as_str().unwrap(), "/v1/sign-out", out).await;
    assert_eq!((status, refresh(&second["refresh_token"]).await.0), (200, 401));
}

#[tokio::test]
async fn forged_expired_and_foreign_tokens_open_nothing() {
    use base64::Engine;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD as B64;
    let stage = Stage::new().await;
    stage.other_tenant().await;
    let good = stage.token("alice").await;
    let parts: Vec<&str> = good.split('.').collect();
    let claims: Value = serde_json::from_slice(&B64.decode(parts[1]).unwrap()).unwrap();
    let key = std::fs::read(stage.data_dir().join("token.key")).unwrap();
    let sign = |claims: &Value| {
        let header = jsonwebtoken::Header::new(jsonwebtoken::Algorithm::HS256);
        jsonwebtoken::encode(&header, claims, &jsonwebtoken::EncodingKey::from_secret(&key)).unwrap()
    };
    assert_eq!(stage.get(&sign(&claims), "/v1/me").await.0, 200, "the test signs as the daemon does");
    let changed = |name: &str, value: Value| {
        let mut claims = claims.clone();
        claims[name] = value;
        claims
    };
    let old = claims["iat"].as_u64().unwrap() - 1_000;
    let mut expired = changed("exp", json!(old + 600));
    expired["iat"] = json!(old);
    let none = format!("{}.{}.", B64.encode(r#"{"alg":"none","typ":"JWT"}"#), parts[1]);
    let tampered = format!("{}.{}.{}", parts[0], B64.encode(changed("tenant", json!("other")).to_string()), parts[2]);
    for (what, token) in [
        ("alg none", none),
        ("tampered", tampered),
        ("expired", sign(&expired)),
        ("another audience", sign(&changed("aud", json!("x")))),
        ("another issuer", sign(&changed("iss", json!("x")))),
        ("a user of another tenant", sign(&changed("tenant", json!("other")))),
        ("no such tenant", sign(&changed("tenant", json!("../x")))),
        ("valid for a day", sign(&changed("exp", json!(old + 87_400)))),
        ("garbage", "x".repeat(5_000)),
        ("an unknown key", "ohk_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA".into()),
    ] {
        let (status, problem) = stage.get(&token, "/v1/calls").await;
        assert_eq!((status, &problem["code"]), (401, &json!("unauthorized")), "{what}");
    }
    let in_url = stage.http.get(stage.url(&format!("/v1/me?token={good}&access_token={good}"))).send().await.unwrap();
    assert_eq!(
        (in_url.status(), in_url.headers()["www-authenticate"].to_str().unwrap()),
        (StatusCode::UNAUTHORIZED, "Bearer")
    );
}

#[tokio::test]
async fn every_route_that_asks_for_a_token_does_so() {
    let stage = Stage::new().await;
    for route in ROUTES.iter().filter(|r| r.access == Access::Bearer) {
        let path = route.path.replace("{id}", "x");
        let method = reqwest::Method::from_bytes(route.method.to_uppercase().as_bytes()).unwrap();
        let response = stage.http.request(method, stage.url(&path)).json(&json!({})).send().await.unwrap();
        assert_eq!(response.status(), StatusCode::UNAUTHORIZED, "{} {}", route.method, route.path);
        assert_eq!(response.headers()["content-type"], "application/problem+json");
    }
}

#[tokio::test]
async fn another_tenants_ids_are_as_absent_as_none_on_every_route() {
    let mut stage = Stage::new().await;
    let other = stage.other_tenant().await;
    let key = stage.admin().await.create_api_key(&other, "theirs").await.unwrap();
    let (call, recording) = crate::recordings::a_recorded_call(&mut stage).await;
    let mallory = stage.token("mallory").await;
    for token in [mallory.as_str(), key.expose()] {
        for route in ROUTES.iter().filter(|r| r.path.contains("{id}")) {
            let real = if route.path.contains("recordings") { &recording } else { &call };
            let mut answers = Vec::new();
            for id in [real.as_str(), "0198c1f2-aaaa-7bbb-8ccc-0123456789ab", "..%2Fx"] {
                let path = route.path.replace("{id}", id);
                answers.push(match route.method {
                    "get" => stage.get(token, &path).await,
                    _ => stage.post(token, &path, json!({})).await,
                });
            }
            assert_eq!((answers[0].0, &answers[0].1["code"]), (404, &json!("not_found")), "{}", route.path);
            assert!(answers.iter().all(|a| a == &answers[0]), "{}: {answers:?}", route.path);
        }
        let (_, list) = stage.get(token, "/v1/calls").await;
        assert_eq!(list["data"], json!([]));
    }
    let mut page = stage.page("mallory").await;
    for op in ["answer", "reject", "hangup"] {
        let real = page.refused(json!({ "op": op, "call": call })).await;
        let none = page.refused(json!({ "op": op, "call": "none" })).await;
        assert_eq!((&real["code"], &real), (&json!("not_found"), &none), "{op}");
    }
    let (status, _) = stage.get(&stage.token("alice").await, &format!("/v1/calls/{call}")).await;
    assert_eq!(status, 200, "and its own user sees it");
}

#[tokio::test]
async fn another_user_of_the_same_tenant_sees_neither_call_nor_recording() {
    let mut stage = Stage::new().await;
    let admin = stage.admin().await;
    let dev = offhook_contract::TenantId::parse("dev").unwrap();
    let wish =
        UserWish { login: "dave".into(), name: "Dave".into(), extension: "104".into(), password: None, admin: false };
    admin.add_user(&dev, wish).await.unwrap();
    let key = admin.create_api_key(&dev, "crm").await.unwrap();
    let (call, recording) = crate::recordings::a_recorded_call(&mut stage).await;
    let dave = stage.token("dave").await;
    assert_eq!(stage.get(&dave, &format!("/v1/calls/{call}")).await.0, 404);
    assert_eq!(stage.get(&dave, &format!("/v1/recordings/{recording}")).await.0, 404);
    assert_eq!(
        stage.get(key.expose(), &format!("/v1/recordings/{recording}")).await.0,
        200,
        "the tenant's own key does"
    );
}

#[tokio::test]
async fn bodies_too_large_too_deep_or_not_right_are_refused_by_name() {
    let stage = Stage::new().await;
    let token = stage.token("alice").await;
    let send = async |kind: &str, body: Vec<u8>| {
        let request = stage.http.post(stage.url("/v1/calls")).bearer_auth(&token).header("content-type", kind);
        let response = request.body(body).send().await.unwrap();
        (response.status().as_u16(), response.json::<Value>().await.unwrap()["code"].clone())
    };
    let large = format!("{{\"to\":\"{}\"}}", "1".repeat(2 << 20)).into_bytes();
    assert_eq!(send("application/json", large).await, (413, json!("too_large")));
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000)).into_bytes();
    assert_eq!(send("application/json", deep).await, (400, json!("invalid")));
    for body in ["", "{", "null", "[]", "{\"to\":5}", "{\"to\":\"1\",\"admin\":true}", "{\"to\":\"\\ud800\"}", "\u{0}"]
    {
        assert_eq!(send("application/json", body.into()).await, (400, json!("invalid")), "{body:?}");
    }
    assert_eq!(send("text/plain", b"{\"to\":\"1\"}".to_vec()).await.0, 415, "what a foreign page can send unasked");
    for query in ["limit=0", "limit=100000", "limit=x", "after=x", "after=1.../"] {
        assert_eq!(stage.get(&token, &format!("/v1/calls?{query}")).await.0, 400, "{query}");
    }
    assert_eq!(stage.get(&token, "/v1/none").await.0, 404);
    assert_eq!(stage.http.delete(stage.url("/v1/me")).send().await.unwrap().status(), 405);
    assert_eq!(stage.get(&token, "/v1/me").await.0, 200, "and it still answers");
}

#[tokio::test]
async fn a_chunked_body_without_end_is_cut_off() {
    let stage = Stage::new().await;
    let mut socket = tokio::net::TcpStream::connect(stage.address).await.unwrap();
    let head =
        "POST /v1/sign-in HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n";
    socket.write_all(head.as_bytes()).await.unwrap();
    let chunk = format!("10000\r\n{}\r\n", "a".repeat(0x10000));
    for _ in 0..40 {
        if socket.write_all(chunk.as_bytes()).await.is_err() {
            break;
        }
    }
    let mut answer = vec![0; 64];
    let n = socket.read(&mut answer).await.unwrap_or(0);
    let text = String::from_utf8_lossy(&answer[..n]).into_owned();
    assert!(n == 0 || text.starts_with("HTTP/1.1 413"), "{text}");
}

#[tokio::test]
async fn pages_come_with_a_strict_policy_and_are_not_sent_twice() {
    let stage = Stage::new().await;
    let page = stage.http.get(stage.url("/")).send().await.unwrap();
    assert_eq!(
        (page.status(), page.headers()["content-type"].to_str().unwrap()),
        (StatusCode::OK, "text/html; charset=utf-8")
    );
    let policy = page.headers()["content-security-policy"].to_str().unwrap().to_owned();
    assert!(policy.contains("default-src 'none'") && policy.contains("frame-ancestors 'none'"));
    assert!(!policy.contains("unsafe"), "{policy}");
    assert_eq!(page.headers()["x-content-type-options"], "nosniff");
    let tag = page.headers()["etag"].clone();
    let again = stage.http.get(stage.url("/")).header("if-none-match", tag).send().await.unwrap();
    assert_eq!(again.status(), StatusCode::NOT_MODIFIED);
    assert_eq!(
        stage.http.get(stage.url("/history")).send().await.unwrap().status(),
        StatusCode::OK,
        "the page's own paths"
    );
    for missing in ["/assets/none.js", "/../Cargo.toml", "/%2e%2e/x.toml", "/index.html/x.css"] {
        let status = stage.http.get(stage.url(missing)).send().await.unwrap().status();
        assert_eq!(status, StatusCode::NOT_FOUND, "{missing}");
    }
    let api = stage.http.get(stage.url("/v1/me")).send().await.unwrap();
    assert_eq!(api.headers()["cache-control"], "no-store");
    assert!(api.headers().get("server").is_none());
}

#[tokio::test]
async fn openapi_describes_the_routes_that_exist_here() {
    let stage = Stage::new().await;
    let document: Value = stage.http.get(stage.url("/openapi.json")).send().await.unwrap().json().await.unwrap();
    let listed: usize = document["paths"].as_object().unwrap().values().map(|p| p.as_object().unwrap().len()).sum();
    assert_eq!((document["openapi"].as_str(), listed), (Some("3.1.0"), ROUTES.len()));
}

#[tokio::test]
async fn one_click_sign_in_exists_only_under_dev_and_only_for_this_machine() {
    let stage = Stage::new().await;
    let users: Value = stage.http.get(stage.url("/v1/dev/users")).send().await.unwrap().json().await.unwrap();
    let logins: Vec<&str> = users["data"].as_array().unwrap().iter().map(|u| u["login"].as_str().unwrap()).collect();
    assert_eq!(logins, ["alice", "bob"]);
    let body = json!({ "login": "alice" });
    let rebound = stage.http.post(stage.url("/v1/dev/sign-in")).header("host", "evil.example").json(&body).send();
    assert_eq!(rebound.await.unwrap().status(), StatusCode::NOT_FOUND, "a name that was pointed at this machine");
    stage.other_tenant().await;
    let foreign =
        stage.http.post(stage.url("/v1/dev/sign-in")).json(&json!({ "login": "mallory" })).send().await.unwrap();
    assert_eq!(foreign.status(), StatusCode::NOT_FOUND);
    let plain = Stage::without_dev("").await;
    for request in
        [plain.http.get(plain.url("/v1/dev/users")), plain.http.post(plain.url("/v1/dev/sign-in")).json(&body)]
    {
        assert_eq!(request.send().await.unwrap().status(), StatusCode::NOT_FOUND);
    }
    let document: Value = plain.http.get(plain.url("/openapi.json")).send().await.unwrap().json().await.unwrap();
    assert!(document["paths"].get("/v1/dev/users").is_none());
}

#[tokio::test]
async fn floods_and_guessing_are_slowed_per_source() {
    let limits = "[control.limits]\nrequests_per_s = 1\nrequests_burst = 30\nauth_failures_per_minute = 5\n";
    let stage = Stage::without_dev(limits).await;
    let mut statuses = Vec::new();
    for _ in 0..8 {
        statuses.push(sign_in(&stage, "nobody", "wrong password").await.0.as_u16());
    }
    assert_eq!(statuses, [401, 401, 401, 401, 401, 429, 429, 429]);
    let response = stage.http.get(stage.url("/v1/me")).bearer_auth("x").send().await.unwrap();
    assert_eq!((response.status().as_u16(), response.headers().contains_key("retry-after")), (429, true));
    let mut last = 0;
    for _ in 0..40 {
        last = stage.http.get(stage.url("/openapi.json")).send().await.unwrap().status().as_u16();
    }
    assert_eq!(last, 429);
    assert_eq!(stage.http.get(stage.url("/")).send().await.unwrap().status(), 200, "the page itself still loads");
}

#[tokio::test]
async fn one_source_gets_only_so_many_connections() {
    let limits = "[control.limits]\nconnections = 3\nrequests_per_s = 1000\nrequests_burst = 1000\n";
    let stage = Stage::without_dev(limits).await;
    let mut kept = Vec::new();
    for _ in 0..3 {
        let mut socket = tokio::net::TcpStream::connect(stage.address).await.unwrap();
        socket.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        assert!(socket.read(&mut [0; 16]).await.unwrap() > 0);
        kept.push(socket);
    }
    let mut fourth = tokio::net::TcpStream::connect(stage.address).await.unwrap();
    let _ = fourth.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await;
    assert_eq!(fourth.read(&mut [0; 16]).await.unwrap_or(0), 0, "closed without an answer");
    kept.clear();
    stage.wait_for_gauge("http_connections", 0).await;
    assert_eq!(stage.http.get(stage.url("/")).send().await.unwrap().status(), 200);
}

#[tokio::test]
async fn a_call_over_http_is_made_once_per_idempotency_key() {
    let stage = Stage::new().await;
    let dev = offhook_contract::TenantId::parse("dev").unwrap();
    let key = stage.admin().await.create_api_key(&dev, "crm").await.unwrap();
    let create = async |idempotency: &str, body: &Value| {
        let request = stage.http.post(stage.url("/v1/calls")).bearer_auth(key.expose());
        let response = request.header("idempotency-key", idempotency).json(body).send().await.unwrap();
        (response.status().as_u16(), response.json::<Value>().await.unwrap())
    };
    let body = json!({ "extension": "101", "to": "102" });
    let (status, offline) = create("k0", &body).await;
    assert_eq!((status, &offline["cause"]), (422, &json!("offline")));
    let (mut alice, mut bob) = (stage.page("alice").await, stage.page("bob").await);
    let (first, second) = tokio::join!(create("k1", &body), create("k1", &body));
    let third = create("k1", &body).await;
    let made: Vec<_> = [&first, &second, &third].into_iter().filter(|(status, _)| *status == 201).collect();
    assert!(made.len() >= 2 && made.iter().all(|m| m.1["id"] == made[0].1["id"]), "{first:?} {second:?} {third:?}");
    assert!([&first, &second].iter().all(|a| matches!(a.0, 201 | 409)));
    assert_eq!(create("k1", &json!({ "extension": "101", "to": "*43" })).await.0, 409);
    let ringing = alice.ringing().await;
    assert_eq!((&ringing["id"], &ringing["parties"][0]["name"]), (&made[0].1["id"], &json!("Bob")));
    let call = ringing["id"].as_str().unwrap();
    alice.ok(json!({ "op": "answer", "call": call })).await;
    alice.join(call).await;
    assert_eq!(bob.ringing().await["id"], call);
    let (status, _) = stage.post(key.expose(), &format!("/v1/calls/{call}/hangup"), json!({})).await;
    assert_eq!((status, &alice.ended().await["id"]), (200, &json!(call)));
    assert_eq!(stage.post(key.expose(), &format!("/v1/calls/{call}/hangup"), json!({})).await.0, 200, "over already");
    assert_eq!(stage.post(key.expose(), "/v1/calls", json!({ "to": "102" })).await.0, 400, "whose pages?");
    let alice_token = stage.token("alice").await;
    assert_eq!(stage.post(&alice_token, "/v1/calls", json!({ "extension": "102", "to": "101" })).await.0, 403);
    assert_eq!(stage.get(key.expose(), "/v1/me").await.0, 403, "a key is no user");
}

#[tokio::test]
async fn the_recording_setting_is_the_tenants_and_its_change_is_written_down() {
    let stage = Stage::new().await;
    let token = stage.token("alice").await;
    assert_eq!(stage.get(&token, "/v1/settings/recording").await.1, json!({ "mode": "on_demand" }));
    let patch = stage.http.patch(stage.url("/v1/settings/recording")).bearer_auth(&token);
    assert_eq!(patch.json(&json!({ "mode": "on_answer" })).send().await.unwrap().status(), 200);
    assert_eq!(stage.get(&token, "/v1/me").await.1["features"]["recording"], "on_answer");
    let patch = stage.http.patch(stage.url("/v1/settings/recording")).bearer_auth(&token);
    assert_eq!(patch.json(&json!({ "mode": "always" })).send().await.unwrap().status(), 400);
    let store =
        offhook_control::store::Store::open(&offhook_contract::Secret::default(), stage.data_dir()).await.unwrap();
    let lines = store.audit_lines(&offhook_contract::TenantId::parse("dev").unwrap()).await.unwrap();
    let line = |result: &str| ("set_recording_mode".to_owned(), "on_answer".to_owned(), result.to_owned());
    assert!(lines.contains(&line("ok")), "{lines:?}");
    let (alice, bob) = (token, stage.token("bob").await);
    let is_admin = async |token: &str| stage.get(token, "/v1/me").await.1["user"]["admin"].clone();
    assert_eq!((is_admin(&alice).await, is_admin(&bob).await), (json!(true), json!(false)));
    let change = async |token: &str| {
        let patch = stage.http.patch(stage.url("/v1/settings/recording")).bearer_auth(token);
        let response = patch.json(&json!({ "mode": "off" })).send().await.unwrap();
        (response.status().as_u16(), response.json::<Value>().await.unwrap()["code"].clone())
    };
    assert_eq!(change(&bob).await, (403, json!("forbidden")), "not for everybody");
    assert_eq!(stage.get(&bob, "/v1/settings/recording").await.1, json!({ "mode": "on_answer" }), "but he may know");
    let dev = offhook_contract::TenantId::parse("dev").unwrap();
    let key = stage.admin().await.create_api_key(&dev, "crm").await.unwrap();
    assert_eq!(change(key.expose()).await.0, 200);
    let id = stage.admin().await.api_keys(&dev).await.unwrap()[0].id.clone();
    stage.admin().await.revoke_api_key(&dev, &id).await.unwrap();
    assert_eq!(change(key.expose()).await, (401, json!("unauthorized")), "a key that was taken back");
}

#[tokio::test]
async fn an_extension_is_never_an_emergency_number() {
    let stage = Stage::new().await;
    let dev = offhook_contract::TenantId::parse("dev").unwrap();
    let wish = |extension: &str| UserWish {
        login: format!("user{extension}"),
        name: "Eve".into(),
        extension: extension.into(),
        password: None,
        admin: false,
    };
    let admin = stage.admin().await;
    let refused = admin.add_user(&dev, wish("112")).await.unwrap_err().to_string();
    assert!(refused.contains("112 is an emergency number"), "{refused}");
    admin.add_user(&dev, wish("113")).await.unwrap();
}

#[tokio::test]
async fn ice_servers_carry_credentials_for_ten_minutes() {
    let turn = "[turn]\nurls = [\"turn:turn.example.org:3478?transport=udp\"]\nsecret = \"north\"\n";
    let stage = Stage::with(&format!("{turn}{TRUNK}"), crate::nodes::Script::default()).await;
    let (status, answer) = stage.get(&stage.token("alice").await, "/v1/ice-servers").await;
    assert_eq!((status, answer["ttl_s"].as_u64()), (200, Some(600)));
    let check = |servers: &Value| {
        let server = &servers[0];
        let username = server["username"].as_str().unwrap();
        let now = offhook_bus::wall_now().0 / 1000;
        let password = offhook_wire_stun::credentials::password(b"north", username);
        assert_eq!(server["credential"], password);
        let expires: u64 = username.split(':').next().unwrap().parse().unwrap();
        assert!((590..=600).contains(&(expires - now)), "{username}");
    };
    check(&answer["ice_servers"]);
    let mut alice = stage.page("alice").await;
    check(&alice.ready["ice_servers"]);
    let placed = alice.ok(json!({ "op": "dial", "to": "*43" })).await;
    check(&placed["ice_servers"]);
    check(&alice.join(placed["call"]["id"].as_str().unwrap()).await["ice_servers"]);
}

#[tokio::test]
async fn draining_takes_no_new_calls_and_ends_with_the_last_one() {
    let mut stage = Stage::new().await;
    let mut alice = stage.page("alice").await;
    let call = alice.dial("*43").await;
    alice.join(&call).await;
    stage.drain();
    let refused = async {
        loop {
            let reply = alice.command(json!({ "op": "dial", "to": "*43" })).await;
            if reply.get("error").is_some() {
                return reply["error"].clone();
            }
            let id = reply["ok"]["call"]["id"].clone();
            alice.ok(json!({ "op": "hangup", "call": id })).await;
        }
    };
    let refused = refused.await;
    assert_eq!((&refused["code"], &refused["cause"]), (&json!("unavailable"), &json!("drained")));
    alice.ok(json!({ "op": "hangup", "call": call })).await;
    stage.ended().await;
}

#[tokio::test]
async fn stopping_ends_calls_with_the_cause() {
    let mut stage = Stage::new().await;
    let mut alice = stage.page("alice").await;
    let call = alice.dial("*43").await;
    alice.join(&call).await;
    stage.stop();
    assert_eq!(alice.ended().await["cause"], "drained");
    stage.nodes.expect("close_room").await;
    stage.ended().await;
}
