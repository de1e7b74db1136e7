//! The pages, embedded at build time. A build without Node embeds one page that says how to build the real ones.
use super::Shared;
use crate::tokens::hex;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use axum::response::Response;
use sha2::{Digest, Sha256};
use std::collections::HashMap;

include!(concat!(env!("OUT_DIR"), "/pages.rs"));

const INDEX: &str = "index.html";

/// The embedded files by path, each with its entity tag.
pub struct Assets {
    files: HashMap<&'static str, Asset>,
}

struct Asset {
    bytes: &'static [u8],
    tag: HeaderValue,
    kind: &'static str,
}

impl Default for Assets {
    fn default() -> Self {
        let asset = |path: &'static str, bytes: &'static [u8]| {
            let tag = format!("\"{}\"", hex(Sha256::digest(bytes).get(..16).unwrap_or_default()));
            let tag = HeaderValue::from_str(&tag).unwrap_or(HeaderValue::from_static("\"\""));
            Asset { bytes, tag, kind: kind_of(path) }
        };
        Self { files: PAGES.iter().map(|(path, bytes)| (*path, asset(path, bytes))).collect() }
    }
}

fn kind_of(path: &str) -> &'static str {
    match path.rsplit('.').next().unwrap_or_default() {
        "html" => "text/html; charset=utf-8",
        "js" | "mjs" => "text/javascript; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "ico" => "image/x-icon",
        "json" | "map" => "application/json",
        "webmanifest" => "application/manifest+json",
        "woff2" => "font/woff2",
        "wav" => "audio/wav",
        "wasm" => "application/wasm",
        "txt" => "text/plain; charset=utf-8",
        _ => "application/octet-stream",
    }
}

/// A known file, or the page itself: its router decides what an unknown path is.
pub async fn serve(State(app): State<Shared>, uri: Uri, headers: HeaderMap) -> Response {
    let path = uri.path().trim_start_matches('/');
    let named = app.assets.files.get_key_value(path);
    let is_file = path.rsplit('/').next().is_some_and(|name| name.contains('.'));
    let found = named.or_else(|| if is_file { None } else { app.assets.files.get_key_value(INDEX) });
    let mut response = Response::new(Body::empty());
    let Some((path, asset)) = found else {
        *response.status_mut() = StatusCode::NOT_FOUND;
        return response;
    };
    // Vite names its files by their content; everything else is asked for again.
    let lasting = path.starts_with("assets/");
    let caching = if lasting { "public, max-age=31536000, immutable" } else { "no-cache" };
    let known = headers.get(header::IF_NONE_MATCH).is_some_and(|tag| *tag == asset.tag);
    let fields = response.headers_mut();
    fields.insert(header::ETAG, asset.tag.clone());
    fields.insert(header::CACHE_CONTROL, HeaderValue::from_static(caching));
    fields.insert(header::CONTENT_TYPE, HeaderValue::from_static(asset.kind));
    if known {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
    } else {
        *response.body_mut() = Body::from(asset.bytes);
    }
    response
}
