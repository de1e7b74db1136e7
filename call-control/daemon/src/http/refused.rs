//! Every refusal is counted by its code, and told in the log: who, what, why.
use super::problem::Told;
use axum::http::Method;
use axum::response::Response;
use offhook_runtime::{LogThrottle, Metrics, shown_ip};
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};

pub struct Refused {
    metrics: Metrics,
    /// By code: many of one kind do not hide the others.
    logs: Mutex<HashMap<&'static str, LogThrottle>>,
}

impl Refused {
    pub fn new(metrics: Metrics) -> Self {
        Self { metrics, logs: Mutex::default() }
    }

    /// A response, if it refuses.
    pub fn note(&self, source: IpAddr, method: &Method, response: &Response) {
        if !response.status().is_client_error() {
            return;
        }
        // What the HTTP library refuses by itself has no words of ours.
        let told = response.extensions().get::<Told>();
        let (code, reason) =
            told.map_or(("http", "not HTTP as it should be"), |told| (told.code, told.detail.as_str()));
        self.say(source, method.as_str(), code, reason);
    }

    pub fn say(&self, source: IpAddr, what: &str, code: &'static str, reason: &str) {
        let help = "Requests and WebSocket frames that were refused, by code.";
        self.metrics.counter_with("http_refused_total", help, &[("code", code)]).increment();
        let passed = self.logs.lock().unwrap_or_else(PoisonError::into_inner).entry(code).or_default().pass();
        if let Some(held_back) = passed {
            tracing::info!(source = %shown_ip(source), what, code, reason, held_back, "API request refused");
        }
    }
}
