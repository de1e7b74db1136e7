//! Access tokens (JWT, HS256 and nothing else), refresh tokens and API keys (random, stored as SHA-256).
use crate::secrets::{SecretError, kept, random_text};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use offhook_contract::{RecordingId, TenantId, UnixMs};
use offhook_control_core::UserId;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::fmt::Write;
use std::path::Path;

const ISSUER: &str = "offhook";
const AUDIENCE: &str = "offhook-api";
const TICKET_AUDIENCE: &str = "offhook-recording";
/// A player asks for ranges as it goes; its page asks for the next ticket when this one is over.
pub const TICKET_S: u64 = 600;
/// Two machines' clocks may differ by this much.
const LEEWAY_S: u64 = 30;
pub const MAX_ACCESS_TOKEN_S: u64 = 900;
/// A refresh token is good for a month and is replaced at every use.
pub const REFRESH_TOKEN_MS: u64 = 30 * 86_400_000;
/// Two pages of one browser may refresh at the same moment.
pub const REFRESH_GRACE_MS: u64 = 20_000;
const API_KEY_MARK: &str = "ohk_";

/// Makes and checks access tokens.
pub struct Tokens {
    encoding: EncodingKey,
    decoding: DecodingKey,
    validation: Validation,
    tickets: Validation,
    life_s: u64,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Claims {
    iss: String,
    aud: String,
    sub: String,
    tenant: String,
    iat: u64,
    exp: u64,
}

/// Opens the sound of one recording to one of its listeners, and nothing else: it stands in an address, for players of
/// browsers send no headers.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Ticket {
    iss: String,
    aud: String,
    sub: String,
    tenant: String,
    recording: String,
    exp: u64,
}

/// Whom an access token speaks for, and until when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subject {
    pub tenant: TenantId,
    pub user: UserId,
    pub expires: UnixMs,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    #[error("the access token has expired")]
    Expired,
    #[error("the access token is not valid")]
    Invalid,
}

impl Tokens {
    /// The signing key is made on the first start. `life_s` is at most [`MAX_ACCESS_TOKEN_S`].
    pub fn open(data_dir: &Path, life_s: u64) -> Result<Self, SecretError> {
        Ok(Self::with_key(&kept::<32>(&data_dir.join("token.key"))?, life_s))
    }

    fn with_key(key: &[u8], life_s: u64) -> Self {
        Self {
            encoding: EncodingKey::from_secret(key),
            decoding: DecodingKey::from_secret(key),
            validation: validation_for(AUDIENCE),
            tickets: validation_for(TICKET_AUDIENCE),
            life_s: life_s.min(MAX_ACCESS_TOKEN_S),
        }
    }

    pub const fn life_s(&self) -> u64 {
        self.life_s
    }

    pub fn issue(&self, tenant: &TenantId, user: &UserId, now: UnixMs) -> Result<String, TokenError> {
        let iat = now.0 / 1000;
        let claims = Claims {
            iss: ISSUER.to_owned(),
            aud: AUDIENCE.to_owned(),
            sub: user.as_str().to_owned(),
            tenant: tenant.as_str().to_owned(),
            iat,
            exp: iat + self.life_s,
        };
        Ok(jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &self.encoding)?)
    }

    pub fn check(&self, token: &str) -> Result<Subject, TokenError> {
        let claims = jsonwebtoken::decode::<Claims>(token, &self.decoding, &self.validation)?.claims;
        if claims.exp.saturating_sub(claims.iat) > MAX_ACCESS_TOKEN_S {
            return Err(TokenError::Invalid);
        }
        let tenant = TenantId::parse(claims.tenant).map_err(|_| TokenError::Invalid)?;
        Ok(Subject { tenant, user: UserId::new(claims.sub), expires: UnixMs(claims.exp.saturating_mul(1000)) })
    }

    /// A ticket to a recording's sound, for [`TICKET_S`].
    pub fn ticket(
        &self,
        tenant: &TenantId,
        user: &UserId,
        recording: &RecordingId,
        now: UnixMs,
    ) -> Result<String, TokenError> {
        let ticket = Ticket {
            iss: ISSUER.to_owned(),
            aud: TICKET_AUDIENCE.to_owned(),
            sub: user.as_str().to_owned(),
            tenant: tenant.as_str().to_owned(),
            recording: recording.to_string(),
            exp: now.0 / 1000 + TICKET_S,
        };
        Ok(jsonwebtoken::encode(&Header::new(Algorithm::HS256), &ticket, &self.encoding)?)
    }

    /// Who may hear this recording by this ticket; whether he still may is for the database to say.
    pub fn check_ticket(&self, ticket: &str, recording: &str) -> Result<Subject, TokenError> {
        let claims = jsonwebtoken::decode::<Ticket>(ticket, &self.decoding, &self.tickets)?.claims;
        if claims.recording != recording {
            return Err(TokenError::Invalid);
        }
        let tenant = TenantId::parse(claims.tenant).map_err(|_| TokenError::Invalid)?;
        Ok(Subject { tenant, user: UserId::new(claims.sub), expires: UnixMs(claims.exp.saturating_mul(1000)) })
    }
}

fn validation_for(audience: &str) -> Validation {
    let mut validation = Validation::new(Algorithm::HS256);
    validation.set_audience(&[audience]);
    validation.set_issuer(&[ISSUER]);
    validation.set_required_spec_claims(&["exp", "aud", "iss", "sub"]);
    validation.leeway = LEEWAY_S;
    validation
}

impl From<jsonwebtoken::errors::Error> for TokenError {
    fn from(error: jsonwebtoken::errors::Error) -> Self {
        match error.kind() {
            jsonwebtoken::errors::ErrorKind::ExpiredSignature => Self::Expired,
            _ => Self::Invalid,
        }
    }
}

/// What the database keeps of a random token.
pub fn hash(token: &str) -> String {
    hex(&Sha256::digest(token.as_bytes()))
}

pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

pub fn new_refresh_token() -> Result<String, SecretError> {
    random_text::<32>()
}

/// A new API key (`ohk_…`, shown once), and the prefix by which lists name it.
pub fn new_api_key() -> Result<(String, String), SecretError> {
    let key = format!("{API_KEY_MARK}{}", random_text::<32>()?);
    let prefix = key.chars().take(API_KEY_MARK.len() + 8).collect();
    Ok((key, prefix))
}

pub fn looks_like_api_key(token: &str) -> bool {
    token.starts_with(API_KEY_MARK)
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::Engine;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD as B64;

    fn now() -> UnixMs {
        UnixMs(jsonwebtoken::get_current_timestamp() * 1000)
    }
    fn tokens() -> Tokens {
        offhook_runtime::install_crypto_provider();
        Tokens::with_key(&[7; 32], 600)
    }
    fn alice() -> (TenantId, UserId) {
        (TenantId::parse("a").unwrap(), UserId::new("u1"))
    }

    #[test]
    fn a_token_of_ours_names_its_tenant_and_user() {
        let (tenant, user) = alice();
        let token = tokens().issue(&tenant, &user, now()).unwrap();
        let subject = tokens().check(&token).unwrap();
        assert_eq!((subject.tenant, subject.user), (tenant, user));
    }

    #[test]
    fn an_expired_token_is_named_as_such_and_everything_forged_is_merely_invalid() {
        let (tenant, user) = alice();
        let old = tokens().issue(&tenant, &user, UnixMs(now().0 - 700_000)).unwrap();
        assert_eq!(tokens().check(&old), Err(TokenError::Expired));
        let good = tokens().issue(&tenant, &user, now()).unwrap();
        let payload = good.split('.').nth(1).unwrap();
        let none = format!("{}.{payload}.", B64.encode(r#"{"alg":"none","typ":"JWT"}"#));
        let other_key = Tokens::with_key(&[8; 32], 600).issue(&tenant, &user, now()).unwrap();
        let hs512 = jsonwebtoken::encode(
            &Header::new(Algorithm::HS512),
            &serde_json::from_slice::<serde_json::Value>(&B64.decode(payload).unwrap()).unwrap(),
            &EncodingKey::from_secret(&[7; 32]),
        )
        .unwrap();
        for forged in [none, other_key, hs512, "a.b.c".into(), String::new(), format!("{good}x")] {
            assert_eq!(tokens().check(&forged), Err(TokenError::Invalid), "{forged}");
        }
    }

    #[test]
    fn a_token_for_another_audience_or_without_a_limit_is_invalid() {
        let sign = |claims: serde_json::Value| {
            let key = EncodingKey::from_secret(&[7; 32]);
            jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &key).unwrap()
        };
        let iat = now().0 / 1000;
        let claims = |aud: &str, iss: &str, exp: u64| serde_json::json!({ "iss": iss, "aud": aud, "sub": "u1", "tenant": "a", "iat": iat, "exp": exp });
        assert!(tokens().check(&sign(claims(AUDIENCE, ISSUER, iat + 60))).is_ok());
        assert!(tokens().check(&sign(claims("other", ISSUER, iat + 60))).is_err());
        assert!(tokens().check(&sign(claims(AUDIENCE, "other", iat + 60))).is_err());
        assert!(tokens().check(&sign(claims(AUDIENCE, ISSUER, iat + 86_400))).is_err());
        let mut endless = claims(AUDIENCE, ISSUER, 0);
        endless.as_object_mut().unwrap().remove("exp");
        assert!(tokens().check(&sign(endless)).is_err());
    }

    #[test]
    fn a_ticket_opens_one_recording_and_is_no_access_token() {
        let (tenant, user) = alice();
        let recording = |text: &str| RecordingId::parse(text).unwrap();
        let (one, other) =
            (recording("01890000-0000-7000-8000-000000000001"), recording("01890000-0000-7000-8000-000000000002"));
        let ticket = tokens().ticket(&tenant, &user, &one, now()).unwrap();
        let subject = tokens().check_ticket(&ticket, &one.to_string()).unwrap();
        assert_eq!((subject.tenant, subject.user), (tenant.clone(), user.clone()));
        assert_eq!(tokens().check_ticket(&ticket, &other.to_string()), Err(TokenError::Invalid));
        assert_eq!(tokens().check(&ticket), Err(TokenError::Invalid));
        let access = tokens().issue(&tenant, &user, now()).unwrap();
        assert_eq!(tokens().check_ticket(&access, &one.to_string()), Err(TokenError::Invalid));
        let old = tokens().ticket(&tenant, &user, &one, UnixMs(now().0 - 1_000 * (TICKET_S + 60))).unwrap();
        assert_eq!(tokens().check_ticket(&old, &one.to_string()), Err(TokenError::Expired));
    }

    #[test]
    fn an_api_key_is_kept_as_a_hash_only() {
        let (key, prefix) = new_api_key().unwrap();
        assert!(looks_like_api_key(&key) && key.starts_with(&prefix) && key.len() > 40);
        assert_eq!(hash(&key).len(), 64);
    }
}
