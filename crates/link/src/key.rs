//! Secrets from the system's randomness: the keys of a Link's directions, and one-time tokens.
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use offhook_contract::{LinkKey, LinkProfile, Secret};
use offhook_wire_srtp::{KeyError, Profile, SrtpKey};

#[derive(Debug, thiserror::Error)]
#[error("the system gave no randomness")]
pub struct RandomError(#[from] getrandom::Error);

/// The SRTP profile of a Link's profile.
pub const fn srtp_profile(profile: LinkProfile) -> Profile {
    match profile {
        LinkProfile::AeadAes128Gcm => Profile::AeadAes128Gcm,
        LinkProfile::AeadAes256Gcm => Profile::AeadAes256Gcm,
    }
}

/// A fresh master key and salt for one direction of a Link.
pub fn generate_link_key(profile: LinkProfile) -> Result<LinkKey, RandomError> {
    let srtp = srtp_profile(profile);
    let mut key = vec![0; srtp.key_len()];
    let mut salt = vec![0; srtp.salt_len()];
    getrandom::fill(&mut key)?;
    getrandom::fill(&mut salt)?;
    Ok(LinkKey::from_bytes(profile, &key, &salt))
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
    #[error(transparent)]
    Encoding(#[from] offhook_contract::link::LinkKeyError),
    #[error(transparent)]
    Length(#[from] KeyError),
}

/// The key of one direction as SRTP takes it.
pub fn srtp_key(key: &LinkKey) -> Result<SrtpKey, LinkKeyError> {
    let (master_key, salt) = key.to_bytes()?;
    Ok(SrtpKey::new(srtp_profile(key.profile), &master_key, &salt)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_fresh_and_of_their_profiles_length() {
        for (profile, length) in [(LinkProfile::AeadAes128Gcm, 16), (LinkProfile::AeadAes256Gcm, 32)] {
            let key = generate_link_key(profile).unwrap();
            let srtp = srtp_key(&key).unwrap();
            assert_eq!((srtp.master_key().len(), srtp.master_salt().len()), (length, 12));
            assert!(srtp != srtp_key(&generate_link_key(profile).unwrap()).unwrap());
        }
    }

    #[test]
    fn a_key_of_another_profile_or_no_base64_is_refused_by_name() {
        let mut key = generate_link_key(LinkProfile::AeadAes128Gcm).unwrap();
        key.profile = LinkProfile::AeadAes256Gcm;
        assert!(matches!(srtp_key(&key), Err(LinkKeyError::Length(_))));
        key.key = Secret::new("no base64!");
        assert!(matches!(srtp_key(&key), Err(LinkKeyError::Encoding(_))));
    }
}
