//! Secrets from the system's randomness: the keys of a Link's directions, and one-time tokens.
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use offhook_contract::{LinkKey, LinkProfile, Secret};

#[derive(Debug, thiserror::Error)]
#[error("the system gave no randomness")]
pub struct RandomError(#[from] getrandom::Error);

/// RFC 7714 §12: salts of both AEAD profiles have 12 bytes.
const SALT_BYTES: usize = 12;

const fn key_bytes(profile: LinkProfile) -> usize {
    match profile {
        LinkProfile::AeadAes128Gcm => 16,
        LinkProfile::AeadAes256Gcm => 32,
    }
}

/// A fresh master key and salt for one direction of a Link.
pub fn generate_link_key(profile: LinkProfile) -> Result<LinkKey, RandomError> {
    let mut key = [0; 32];
    let mut salt = [0; SALT_BYTES];
    getrandom::fill(&mut key)?;
    getrandom::fill(&mut salt)?;
    let key = key.get(..key_bytes(profile)).unwrap_or(&key);
    Ok(LinkKey { profile, key: Secret::new(STANDARD.encode(key)), salt: Secret::new(STANDARD.encode(salt)) })
}

/// 256 bits as text that needs no escaping anywhere.
pub fn random_token() -> Result<Secret, RandomError> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes)?;
    Ok(Secret::new(URL_SAFE_NO_PAD.encode(bytes)))
}

/// Why a key from the bus cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LinkKeyError {
    #[error("{0} is not base64")]
    Encoding(&'static str),
    #[error("{field} has {got} bytes; the profile wants {want}")]
    Length { field: &'static str, got: usize, want: usize },
}

/// The master key and salt as bytes, of the lengths their profile wants.
pub fn link_key_bytes(key: &LinkKey) -> Result<(Vec<u8>, [u8; SALT_BYTES]), LinkKeyError> {
    let decode = |field, secret: &Secret| STANDARD.decode(secret.expose()).map_err(|_| LinkKeyError::Encoding(field));
    let bytes = decode("key", &key.key)?;
    let want = key_bytes(key.profile);
    if bytes.len() != want {
        return Err(LinkKeyError::Length { field: "key", got: bytes.len(), want });
    }
    let salt = decode("salt", &key.salt)?;
    let got = salt.len();
    let salt = salt.try_into().map_err(|_| LinkKeyError::Length { field: "salt", got, want: SALT_BYTES })?;
    Ok((bytes, salt))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_fresh_have_their_profiles_length_and_do_not_print() {
        for (profile, length) in [(LinkProfile::AeadAes128Gcm, 16), (LinkProfile::AeadAes256Gcm, 32)] {
            let key = generate_link_key(profile).unwrap();
            let (bytes, _) = link_key_bytes(&key).unwrap();
            assert_eq!(bytes.len(), length);
            assert_ne!(bytes, link_key_bytes(&generate_link_key(profile).unwrap()).unwrap().0);
            assert!(!format!("{key:?}").contains(key.key.expose()));
        }
    }

    #[test]
    fn a_key_of_the_wrong_length_is_named() {
        let mut key = generate_link_key(LinkProfile::AeadAes128Gcm).unwrap();
        key.profile = LinkProfile::AeadAes256Gcm;
        assert_eq!(link_key_bytes(&key), Err(LinkKeyError::Length { field: "key", got: 16, want: 32 }));
        key.key = Secret::new("no base64!");
        assert_eq!(link_key_bytes(&key), Err(LinkKeyError::Encoding("key")));
    }
}
