//! Prompts and beeps, encoded once for every codec, off the media threads, and kept.
use offhook_contract::audio::{BeepPlan, PromptName};
use offhook_contract::{ErrorCode, RequestError};
use offhook_media::{BeepSpec, EncodedPrompt, Prompt, PromptError, builtin};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Prompts and beeps kept; beyond this the cache begins anew.
const KEPT: usize = 64;

#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    #[error("there is no prompt {0:?}")]
    Unknown(String),
    #[error("the prompt cannot be encoded")]
    Encode(#[from] PromptError),
    #[error("a beep has {expected}")]
    Beep { expected: &'static str },
    #[error("the encoder ended")]
    Ended,
}

impl From<LoadError> for RequestError {
    fn from(error: LoadError) -> Self {
        let code = match error {
            LoadError::Unknown(_) => ErrorCode::NotFound,
            LoadError::Beep { .. } => ErrorCode::Invalid,
            LoadError::Encode(_) | LoadError::Ended => ErrorCode::Internal,
        };
        Self::new(code, error.to_string())
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Wanted {
    Prompt(PromptName),
    /// Frequency, duration and level in tenths of a decibel.
    Beep(u16, u16, i32),
}

#[derive(Clone, Default)]
pub struct Prompts {
    kept: Arc<Mutex<HashMap<Wanted, Arc<EncodedPrompt>>>>,
}

impl Prompts {
    pub async fn prompt(&self, name: &PromptName) -> Result<Arc<EncodedPrompt>, LoadError> {
        let wav = builtin::prompt_or_fallback(&name.name, &name.language)
            .ok_or_else(|| LoadError::Unknown(name.name.chars().take(64).collect()))?;
        self.get(Wanted::Prompt(name.clone()), move || offhook_media::encode(&Prompt::from_wav(wav)?)).await
    }

    pub async fn beep(&self, plan: &BeepPlan) -> Result<Arc<EncodedPrompt>, LoadError> {
        if !(100..=3_400).contains(&plan.frequency_hz) {
            return Err(LoadError::Beep { expected: "100 to 3400 Hz, what a telephone carries" });
        }
        if !(20..=2_000).contains(&plan.duration_ms) {
            return Err(LoadError::Beep { expected: "20 to 2000 ms" });
        }
        if !(-60.0..=0.0).contains(&plan.level_dbfs) {
            return Err(LoadError::Beep { expected: "-60 to 0 dBFS" });
        }
        let spec = BeepSpec {
            frequency_hz: f32::from(plan.frequency_hz),
            duration_ms: u32::from(plan.duration_ms),
            level_dbfs: plan.level_dbfs,
        };
        let wanted = Wanted::Beep(plan.frequency_hz, plan.duration_ms, (plan.level_dbfs * 10.0) as i32);
        self.get(wanted, move || offhook_media::encode_beep(&spec)).await
    }

    async fn get(
        &self,
        wanted: Wanted,
        encode: impl FnOnce() -> Result<EncodedPrompt, PromptError> + Send + 'static,
    ) -> Result<Arc<EncodedPrompt>, LoadError> {
        if let Some(kept) = self.lock().get(&wanted) {
            return Ok(Arc::clone(kept));
        }
        let encoded = tokio::task::spawn_blocking(encode).await.map_err(|_| LoadError::Ended)??;
        let encoded = Arc::new(encoded);
        let mut kept = self.lock();
        if kept.len() >= KEPT {
            kept.clear();
        }
        kept.insert(wanted, Arc::clone(&encoded));
        Ok(encoded)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Wanted, Arc<EncodedPrompt>>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
