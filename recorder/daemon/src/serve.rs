//! What call-control asks over the bus.
use crate::config::Config;
use crate::http::Grants;
use crate::session::{self, Command, Session, Shared};
use crate::store::with_source;
use offhook_bus::{Incoming, wall_now};
use offhook_contract::envelope::Request;
use offhook_contract::recorder::{
    FileGrant, GrantFile, RecorderInventory, RecorderInventoryRequest, RecordingFile, StartRecording, StopRecording,
};
use offhook_contract::sfu::Done;
use offhook_contract::{Context, ErrorCode, RecordingId, RequestError, Secret};
use offhook_recorder_core::manifest::{AUDIO_NAME, FILE_NAME};
use offhook_recorder_core::{Recording, RecordingPlan, consent};
use offhook_runtime::Counter;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

/// The daemon's state: one task owns it.
pub struct Desk {
    pub shared: Arc<Shared>,
    pub config: Config,
    pub grants: Grants,
    /// Where call-control fetches files, and the certificate's fingerprint unless that is on loopback.
    pub address: SocketAddr,
    pub fingerprint: String,
    pub sessions: HashMap<RecordingId, Session>,
    pub refused: Counter,
    pub draining: bool,
}

fn refuse<T>(code: ErrorCode, message: impl Into<String>) -> Result<T, RequestError> {
    Err(RequestError::new(code, message))
}

impl Desk {
    pub async fn handle(&mut self, incoming: Incoming) {
        match incoming.name.as_str() {
            StartRecording::NAME => {
                let outcome = match incoming.body::<StartRecording>() {
                    Ok(start) => self.start(&incoming.context, start).await,
                    Err(error) => Err(error),
                };
                if let Err(error) = &outcome {
                    self.refused.increment();
                    tracing::warn!(call = ?incoming.context.call, %error, "a recording is refused");
                }
                incoming.reply::<StartRecording>(outcome);
            }
            StopRecording::NAME => {
                let outcome = match incoming.body::<StopRecording>() {
                    Ok(stop) => self.stop(&incoming.context, &stop.recording).await,
                    Err(error) => Err(error),
                };
                incoming.reply::<StopRecording>(outcome);
            }
            GrantFile::NAME => {
                let outcome = incoming.body::<GrantFile>().and_then(|wanted| self.grant(&incoming.context, &wanted));
                incoming.reply::<GrantFile>(outcome);
            }
            RecorderInventoryRequest::NAME => {
                let recordings = self.sessions.values().map(|session| session.row.borrow().clone()).collect();
                incoming.reply::<RecorderInventoryRequest>(Ok(RecorderInventory { recordings }));
            }
            _ => incoming.unsupported(),
        }
    }

    async fn start(&mut self, context: &Context, start: StartRecording) -> Result<Done, RequestError> {
        let (Some(tenant), Some(call)) = (context.tenant.clone(), context.call.clone()) else {
            return refuse(ErrorCode::Invalid, "a recording needs its tenant and its call");
        };
        if start.tap.recording != start.recording {
            return refuse(ErrorCode::Invalid, "the Tap is another recording's");
        }
        let plan = RecordingPlan::new(tenant, call, context.epoch, start);
        if let Some(running) = self.sessions.get(&plan.recording) {
            let row = running.row.borrow();
            return if row.call == plan.call && row.tenant == plan.tenant {
                Ok(Done {})
            } else {
                refuse(ErrorCode::Conflict, "this recording belongs to another call")
            };
        }
        self.check_room()?;
        if self.find(&plan.recording)?.is_some() {
            return refuse(ErrorCode::Conflict, "this recording is finished");
        }
        let store = self.shared.store.clone();
        let begun = tokio::task::spawn_blocking(move || store.begin(&plan).map(|()| plan)).await;
        let failed = |error: &dyn std::error::Error| {
            RequestError::new(ErrorCode::Internal, format!("the recorder's disk failed: {}", with_source(error)))
        };
        let plan = begun.map_err(|error| failed(&error))?.map_err(|error| failed(&error))?;
        tracing::info!(call = %plan.call, recording = %plan.recording, "a recording begins");
        self.run(Recording::start(plan, self.shared.started.elapsed()));
        Ok(Done {})
    }

    fn check_room(&self) -> Result<(), RequestError> {
        let limit = self.config.max_recordings;
        if self.draining {
            return refuse(ErrorCode::Draining, "this recorder is shutting down");
        }
        if self.sessions.len() >= usize::try_from(limit).unwrap_or(usize::MAX) {
            return refuse(ErrorCode::Exhausted, format!("this recorder makes {limit} recordings, its limit"));
        }
        let free = self.shared.store.check_free(self.config.min_free_bytes, self.config.min_free_percent);
        free.or_else(|full| refuse(ErrorCode::Exhausted, full.to_string()))
    }

    pub fn run(&mut self, recording: Recording) {
        let id = recording.plan().recording.clone();
        self.sessions.insert(id, session::spawn(&self.shared, recording));
    }

    async fn stop(&self, context: &Context, recording: &RecordingId) -> Result<Done, RequestError> {
        if let Some(session) = self.sessions.get(recording) {
            if context.tenant.as_ref().is_some_and(|tenant| *tenant != session.row.borrow().tenant) {
                return refuse(ErrorCode::NotFound, "no such recording");
            }
            // A session that just ended needs no stop.
            let _ = session.commands.send(Command::Stop).await;
            return Ok(Done {});
        }
        match self.find(recording)? {
            Some(_) => Ok(Done {}),
            None => refuse(ErrorCode::NotFound, "no such recording"),
        }
    }

    fn find(&self, recording: &RecordingId) -> Result<Option<Found>, RequestError> {
        self.shared.store.find(recording).map_err(|error| {
            RequestError::new(ErrorCode::Internal, format!("the index failed: {}", with_source(&error)))
        })
    }

    fn grant(&self, context: &Context, wanted: &GrantFile) -> Result<FileGrant, RequestError> {
        let found = self.find(&wanted.recording)?;
        if found.is_none() && self.sessions.contains_key(&wanted.recording) {
            return refuse(ErrorCode::Conflict, "the recording is still being made");
        }
        // Without its tenant's name a recording does not exist.
        let Some((indexed, directory)) = found.filter(|(indexed, _)| context.tenant.as_ref() == Some(&indexed.tenant))
        else {
            return refuse(ErrorCode::NotFound, "no such recording");
        };
        let name = match wanted.file {
            RecordingFile::Flac => AUDIO_NAME,
            RecordingFile::Manifest => FILE_NAME,
            RecordingFile::Consent => consent::FILE_NAME,
        };
        let Some(row) = indexed.files.iter().find(|row| row.name == name) else {
            return refuse(ErrorCode::NotFound, "the recording has no such file");
        };
        let token = self
            .grants
            .grant(directory.join(name), wanted.file, row.sha256.clone())
            .or_else(|error| refuse(ErrorCode::Exhausted, error.to_string()))?;
        let secure = !self.address.ip().is_loopback();
        let scheme = if secure { "https" } else { "http" };
        let ttl_ms = u64::try_from(self.grants.ttl().as_millis()).unwrap_or(0);
        Ok(FileGrant {
            url: Secret::new(format!("{scheme}://{}/files/{}", self.address, token.expose())),
            fingerprint: secure.then(|| self.fingerprint.clone()),
            expires_ms: wall_now().plus_ms(ttl_ms),
        })
    }
}

type Found = (crate::store::Indexed, std::path::PathBuf);
