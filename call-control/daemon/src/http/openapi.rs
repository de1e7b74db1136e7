//! The OpenAPI 3.1 document, made from the route table and the schemas below.
use super::Shared;
use super::routes::{Access, existing};
use axum::Json;
use axum::extract::State;
use serde_json::{Map, Value, json};

pub async fn document(State(app): State<Shared>) -> Json<Value> {
    Json(describe(app.dev.is_some()))
}

pub fn describe(dev: bool) -> Value {
    let mut paths = Map::new();
    for route in existing(dev) {
        let mut operation = json!({
            "summary": route.summary,
            "responses": {
                "default": problem_response(),
                success_status(route.method, route.path): success(route.answer),
            },
        });
        if let (Some(body), Some(fields)) = (route.body, operation.as_object_mut()) {
            let content = json!({ "application/json": { "schema": reference(body) } });
            fields.insert("requestBody".into(), json!({ "required": true, "content": content }));
        }
        if let Some(fields) = operation.as_object_mut() {
            let security = if route.access == Access::Bearer { json!([{ "bearer": [] }]) } else { json!([]) };
            fields.insert("security".into(), security);
            let parameters = parameters(route.method, route.path);
            if !parameters.is_empty() {
                fields.insert("parameters".into(), Value::Array(parameters));
            }
        }
        let path = paths.entry(route.path).or_insert_with(|| json!({}));
        if let Some(path) = path.as_object_mut() {
            path.insert(route.method.into(), operation);
        }
    }
    json!({
        "openapi": "3.1.0",
        "info": { "title": "Offhook", "version": env!("CARGO_PKG_VERSION"), "license": { "name": "MIT OR Apache-2.0", "identifier": "MIT OR Apache-2.0" } },
        "paths": paths,
        "components": {
            "securitySchemes": { "bearer": { "type": "http", "scheme": "bearer", "description": "An access token or an API key" } },
            "schemas": schemas(),
        },
    })
}

fn success_status(method: &str, path: &str) -> &'static str {
    match (method, path) {
        ("post", "/v1/calls") => "201",
        (_, "/v1/ws") => "101",
        _ => "200",
    }
}

fn reference(schema: &str) -> Value {
    json!({ "$ref": format!("#/components/schemas/{schema}") })
}

fn success(answer: &str) -> Value {
    match answer {
        "Audio" => {
            json!({ "description": "FLAC, left the caller, right the other side", "content": { "audio/flac": {} } })
        }
        "Consent" => json!({ "description": "One JSON object a line", "content": { "application/x-ndjson": {} } }),
        "Manifest" | "Document" => json!({ "description": "JSON", "content": { "application/json": {} } }),
        "WebSocket" => json!({ "description": "Switches to WebSocket" }),
        schema => json!({ "description": "Done", "content": { "application/json": { "schema": reference(schema) } } }),
    }
}

fn problem_response() -> Value {
    json!({ "description": "RFC 9457 problem details", "content": { "application/problem+json": { "schema": reference("Problem") } } })
}

fn parameters(method: &str, path: &str) -> Vec<Value> {
    let text = json!({ "type": "string" });
    let mut list = Vec::new();
    if path.contains("{id}") {
        list.push(json!({ "name": "id", "in": "path", "required": true, "schema": text }));
    }
    match (method, path) {
        ("get", "/v1/calls") => {
            let number = json!({ "type": "integer", "minimum": 1, "maximum": 200 });
            list.push(json!({ "name": "limit", "in": "query", "schema": number }));
            list.push(json!({ "name": "after", "in": "query", "schema": text }));
        }
        ("get", "/v1/calls/{id}/events") => {
            let number = json!({ "type": "integer", "minimum": 1, "maximum": 2000 });
            let whence = "next of the page before, or events_next of the call";
            list.push(json!({ "name": "limit", "in": "query", "schema": number }));
            list.push(json!({ "name": "after", "in": "query", "description": whence, "schema": text }));
        }
        (_, "/v1/turn/sessions") => {
            let whose = "Id, login or extension";
            list.push(json!({ "name": "user", "in": "query", "required": true, "description": whose, "schema": text }));
        }
        ("post", "/v1/calls") => list.push(json!({ "name": "Idempotency-Key", "in": "header", "schema": text })),
        ("get", "/v1/recordings/{id}/audio") => {
            list.push(json!({ "name": "Range", "in": "header", "schema": text }));
            list.push(json!({ "name": "ticket", "in": "query", "description": "In place of a token", "schema": text }));
        }
        _ => {}
    }
    list
}

/// `name:type` words; `?` after the type means that it may be null or absent.
fn object(fields: &[&str]) -> Value {
    let mut properties = Map::new();
    let mut required = Vec::new();
    for field in fields {
        let (name, kind) = field.split_once(':').unwrap_or((field, "string"));
        let (kind, optional) = (kind.trim_end_matches('?'), kind.ends_with('?'));
        let schema = match kind {
            "string" | "integer" | "boolean" => match optional {
                true => json!({ "type": [kind, "null"] }),
                false => json!({ "type": kind }),
            },
            "any" => json!({}),
            _ => match kind.strip_suffix("[]") {
                Some("string") => json!({ "type": "array", "items": { "type": "string" } }),
                Some(item) => json!({ "type": "array", "items": reference(item) }),
                None => reference(kind),
            },
        };
        properties.insert(name.to_owned(), schema);
        if !optional {
            required.push(name.to_owned());
        }
    }
    json!({ "type": "object", "properties": properties, "required": required })
}

fn schemas() -> Value {
    json!({
        "Problem": object(&["type", "title", "status:integer", "detail", "code", "cause:string?"]),
        "Empty": object(&[]),
        "SignIn": object(&["login", "password"]),
        "Refresh": object(&["refresh_token"]),
        "SignOut": object(&["refresh_token:string?"]),
        "Ticket": object(&["url", "expires_in_s:integer"]),
        "SignedIn": object(&["access_token", "expires_in_s:integer", "refresh_token"]),
        "DevSignIn": object(&["login"]),
        "DevUsers": object(&["data:DevUser[]"]),
        "DevUser": object(&["login", "name", "extension"]),
        "Me": object(&["user:User", "tenant:Tenant", "features:Features"]),
        "User": object(&["id", "name", "login", "extension", "admin:boolean"]),
        "Tenant": object(&["id", "name"]),
        "Features": object(&["emergency_calls:boolean", "recording:RecordingMode", "outbound_calls:boolean"]),
        "RecordingMode": { "type": "string", "enum": ["off", "on_answer", "on_demand"] },
        "RecordingSetting": object(&["mode:RecordingMode"]),
        "NewCall": object(&["extension:string?", "to"]),
        "CreatedCall": object(&["id", "call:any"]),
        "Calls": object(&["data:Call[]", "next:string?"]),
        "Call": object(&[
            "id", "direction", "state", "from:Party", "to:Party", "started_ms:integer", "answered_ms:integer?",
            "ended_ms:integer?", "duration_ms:integer?", "cause:string?", "recordings:Recording[]",
            "events:CallEvent[]?", "events_next:string?",
        ]),
        "CallEvents": object(&["data:CallEvent[]", "next:string?"]),
        "CallEvent": object(&["at_ms:integer", "kind", "leg:string?", "data:any"]),
        "Party": object(&["name", "number:string?"]),
        "Recording": object(&[
            "id", "call_id", "state", "started_ms:integer?", "duration_ms:integer?", "segments:Segment[]",
            "consent:ConsentEvent[]", "files:File[]", "reason:string?", "reason_code:string?",
        ]),
        "Segment": object(&["segment:integer", "started_ms:integer", "ended_ms:integer?", "gap_ms:integer"]),
        "ConsentEvent": object(&["kind", "played_ms:integer", "segment:integer?"]),
        "File": object(&["name", "bytes:integer", "sha256"]),
        "IceServers": object(&["ice_servers:IceServer[]", "ttl_s:integer"]),
        "TurnSessions": object(&["data:TurnSession[]", "total:integer", "missing:string[]"]),
        "TurnSession": object(&[
            "node", "client", "transport", "relayed:string[]", "began_ms:integer", "up:TurnCarried", "down:TurnCarried",
        ]),
        "TurnCarried": object(&["packets:integer", "bytes:integer"]),
        "TurnEnded": object(&["ended:integer", "missing:string[]"]),
        "IceServer": object(&["urls:string[]", "username:string?", "credential:string?"]),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_document_lists_exactly_the_routes_that_exist_and_every_schema_it_names() {
        for dev in [false, true] {
            let document = describe(dev);
            let listed: Vec<String> = document["paths"]
                .as_object()
                .unwrap()
                .iter()
                .flat_map(|(path, methods)| methods.as_object().unwrap().keys().map(move |m| format!("{m} {path}")))
                .collect();
            let mut expected: Vec<String> = existing(dev).map(|r| format!("{} {}", r.method, r.path)).collect();
            let mut sorted = listed.clone();
            sorted.sort();
            expected.sort();
            assert_eq!(sorted, expected);
            let text = document.to_string();
            for named in text.split("#/components/schemas/").skip(1) {
                let name = named.split('"').next().unwrap();
                assert!(document["components"]["schemas"].get(name).is_some(), "{name} is not described");
            }
        }
    }
}
