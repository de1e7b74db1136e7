//! Clients who know a password: what is behind the login is reached, and the login itself with what only the server could
//! have said.
use super::path;
use offhook_turn_core::{ClientPath, UserSecret, Users};
use offhook_wire_stun::{AttributeType, Message, MessageBuilder, credentials};
use std::collections::HashMap;

const REALM: &str = "example.org";
const SECRET: &[u8] = b"north";
/// As the server offers them.
const ALGORITHMS: [u8; 8] = [0, 2, 0, 0, 0, 1, 0, 0];
/// What a seal is made of.
const CREDENTIALS: [AttributeType; 6] = [
    AttributeType::USERNAME,
    AttributeType::USERHASH,
    AttributeType::REALM,
    AttributeType::NONCE,
    AttributeType::PASSWORD_ALGORITHMS,
    AttributeType::PASSWORD_ALGORITHM,
];

pub(super) fn users() -> Users {
    let mut users = Users::new(REALM);
    users.add("alice", UserSecret::Password("sesame".into())).add_rest_secret(SECRET);
    users
}

/// The last nonce that each client was given.
#[derive(Default)]
pub(super) struct Clients {
    nonces: HashMap<ClientPath, String>,
    /// One request at least carried a seal that is right.
    pub(super) sealed: bool,
}

impl Clients {
    pub(super) fn hear(&mut self, path: &ClientPath, answer: &Message<'_>) {
        if let Ok(Some(nonce)) = answer.nonce() {
            self.nonces.insert(*path, nonce.to_owned());
        }
    }

    /// `operation` 1: the message as Alice seals it, by her name or its hash, with MD5 or SHA-256. 2: its own attributes
    /// whatever they say, with the newest nonce and under the REST password of whatever name it has. Others: as it is.
    pub(super) fn dress(&mut self, operation: u8, body: &[u8]) -> Option<Vec<u8>> {
        let (kind, by_hash, sha256) = (operation & 7, operation & 0x40 != 0, operation & 0x80 != 0);
        if !matches!(kind, 1 | 2) {
            return None;
        }
        let request = Message::parse(body).ok()?;
        let nonce = self.nonces.get(&path(operation >> 3)).map_or("", String::as_str);
        let mut buffer = vec![0; 8_192];
        let mut builder = MessageBuilder::new(&mut buffer, request.class(), request.method(), request.transaction_id());
        let own = |attribute: AttributeType| match kind {
            1 => !CREDENTIALS.contains(&attribute),
            _ => attribute != AttributeType::NONCE,
        };
        for raw in request.attributes().filter(|raw| own(raw.attribute)) {
            builder.attr(raw.attribute, raw.value);
        }
        builder.attr(AttributeType::NONCE, nonce.as_bytes());
        let name = request.username().ok().flatten().unwrap_or_default();
        let (name, password) = match kind {
            1 => ("alice", "sesame".to_owned()),
            _ => (name, credentials::password(SECRET, name)),
        };
        if kind == 1 {
            if by_hash {
                builder.attr(AttributeType::USERHASH, &credentials::userhash(name, REALM));
            } else {
                builder.username(name);
            }
            builder.realm(REALM);
            if sha256 {
                builder.attr(AttributeType::PASSWORD_ALGORITHMS, &ALGORITHMS);
                builder.attr(AttributeType::PASSWORD_ALGORITHM, &[0, 2, 0, 0]);
            }
        }
        if sha256 {
            builder.integrity_sha256(&credentials::long_term_key_sha256(name, REALM, &password));
        } else {
            builder.integrity(&credentials::long_term_key(name, REALM, &password));
        }
        let length = builder.finish().ok()?;
        buffer.truncate(length);
        self.sealed = true;
        Some(buffer)
    }
}
