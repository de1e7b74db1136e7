//! Private keys as PEM, in the clear or encrypted: PKCS#8 (`ENCRYPTED PRIVATE KEY`) and OpenSSL's older form (`Proc-Type`
//! and `DEK-Info` above the text).
use aes::{Aes128, Aes192, Aes256};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use cbc::cipher::block_padding::Pkcs7;
use cbc::cipher::{BlockModeDecrypt, KeyIvInit};
use des::TdesEde3;
use md5::{Digest, Md5};
use offhook_turn_core::conf::Hidden;
use pkcs8::EncryptedPrivateKeyInfoRef;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs1KeyDer, PrivatePkcs8KeyDer, PrivateSec1KeyDer};

#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    #[error(transparent)]
    Pem(#[from] rustls_pki_types::pem::Error),
    #[error("it is encrypted: set pkey-pwd, or take the password off with `openssl pkey -in KEY -out NEW-KEY`")]
    Encrypted,
    #[error("it is encrypted, and pkey-pwd does not open it")]
    Password,
    #[error("it is encrypted by {0}, which is not read here: take that off with `openssl pkey -in KEY -out NEW-KEY`")]
    Cipher(String),
    #[error("its encrypted text is damaged")]
    Damaged,
}

const PKCS8: &str = "ENCRYPTED PRIVATE KEY";

pub(crate) fn private_key(pem: &[u8], password: Option<&Hidden>) -> Result<PrivateKeyDer<'static>, KeyError> {
    let text = String::from_utf8_lossy(pem);
    let block = blocks(&text).find(|block| block.label.ends_with("PRIVATE KEY"));
    let Some(block) = block.filter(Block::is_encrypted) else { return Ok(PrivateKeyDer::from_pem_slice(pem)?) };
    let password = password.ok_or(KeyError::Encrypted)?.0.as_bytes();
    if block.label == PKCS8 {
        return pkcs8(&block.bytes()?, password);
    }
    let plain = block.decrypt(password)?;
    match block.label {
        "RSA PRIVATE KEY" => Ok(PrivatePkcs1KeyDer::from(plain).into()),
        "EC PRIVATE KEY" => Ok(PrivateSec1KeyDer::from(plain).into()),
        _ => Err(KeyError::Damaged),
    }
}

fn pkcs8(der: &[u8], password: &[u8]) -> Result<PrivateKeyDer<'static>, KeyError> {
    let info = EncryptedPrivateKeyInfoRef::try_from(der).map_err(|error| match error {
        pkcs8::Error::EncryptedPrivateKey(error) => KeyError::Cipher(error.to_string()),
        pkcs8::Error::Asn1(error) if is_of_unknown_kind(&error) => KeyError::Cipher("a cipher of its own".to_owned()),
        _ => KeyError::Damaged,
    })?;
    let plain = info.decrypt(password).map_err(|_| KeyError::Password)?;
    Ok(PrivatePkcs8KeyDer::from(plain.as_bytes().to_vec()).into())
}

/// A well-formed text with an algorithm that the crate has no name for.
fn is_of_unknown_kind(error: &pkcs8::der::Error) -> bool {
    use pkcs8::der::ErrorKind;
    matches!(error.kind(), ErrorKind::OidUnknown { .. } | ErrorKind::Value { .. })
}

/// What stands between two PEM lines.
struct Block<'a> {
    label: &'a str,
    body: &'a str,
}

fn blocks(text: &str) -> impl Iterator<Item = Block<'_>> {
    text.split("-----BEGIN ").skip(1).filter_map(|rest| {
        let (label, rest) = rest.split_once("-----")?;
        let (body, _) = rest.split_once("-----END ")?;
        Some(Block { label, body })
    })
}

impl Block<'_> {
    fn is_encrypted(&self) -> bool {
        self.label == PKCS8 || self.header("Proc-Type").is_some_and(|kind| kind.ends_with("ENCRYPTED"))
    }

    fn header(&self, name: &str) -> Option<&str> {
        let value = |line: &'_ str| -> Option<(usize, usize)> {
            let (found, value) = line.split_once(':')?;
            (found.trim() == name).then(|| (found.len() + 1, value.len()))
        };
        self.body.lines().find_map(|line| value(line).and_then(|(at, length)| line.get(at..at + length)).map(str::trim))
    }

    fn bytes(&self) -> Result<Vec<u8>, KeyError> {
        let lines = self.body.lines().filter(|line| !line.contains(':')).map(str::trim);
        STANDARD.decode(lines.collect::<String>()).map_err(|_| KeyError::Damaged)
    }

    fn decrypt(&self, password: &[u8]) -> Result<Vec<u8>, KeyError> {
        let info = self.header("DEK-Info").ok_or(KeyError::Damaged)?;
        let (cipher, iv) = info.split_once(',').ok_or(KeyError::Damaged)?;
        let iv = from_hex(iv.trim()).ok_or(KeyError::Damaged)?;
        let salt = iv.get(..8).ok_or(KeyError::Damaged)?;
        let data = self.bytes()?;
        let key = |length| key_of(password, salt, length);
        match cipher.trim() {
            "AES-128-CBC" => open::<cbc::Decryptor<Aes128>>(&key(16), &iv, &data),
            "AES-192-CBC" => open::<cbc::Decryptor<Aes192>>(&key(24), &iv, &data),
            "AES-256-CBC" => open::<cbc::Decryptor<Aes256>>(&key(32), &iv, &data),
            "DES-EDE3-CBC" => open::<cbc::Decryptor<TdesEde3>>(&key(24), &iv, &data),
            other => Err(KeyError::Cipher(other.to_owned())),
        }
    }
}

fn open<D: KeyIvInit + BlockModeDecrypt>(key: &[u8], iv: &[u8], data: &[u8]) -> Result<Vec<u8>, KeyError> {
    let cipher = D::new_from_slices(key, iv).map_err(|_| KeyError::Damaged)?;
    let mut text = data.to_vec();
    let length = cipher.decrypt_padded::<Pkcs7>(&mut text).map_err(|_| KeyError::Password)?.len();
    text.truncate(length);
    Ok(text)
}

/// OpenSSL's EVP_BytesToKey with MD5, one round: each digest runs over the one before it, the password and the salt.
fn key_of(password: &[u8], salt: &[u8], length: usize) -> Vec<u8> {
    let mut key: Vec<u8> = Vec::with_capacity(length + 16);
    let mut last: Vec<u8> = Vec::new();
    while key.len() < length {
        last = Md5::new().chain_update(&last).chain_update(password).chain_update(salt).finalize().to_vec();
        key.extend_from_slice(&last);
    }
    key.truncate(length);
    key
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digits: Vec<u32> = text.chars().map(|digit| digit.to_digit(16)).collect::<Option<_>>()?;
    let bytes = digits.chunks_exact(2);
    if !bytes.remainder().is_empty() {
        return None;
    }
    bytes.map(|pair| u8::try_from(pair.iter().fold(0, |sum, digit| sum * 16 + digit)).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    fn openssl(arguments: &[&str]) -> Vec<u8> {
        let output = Command::new("openssl").args(arguments).output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    }

    #[test]
    fn keys_that_openssl_encrypts_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key.pem");
        let key = path.to_str().unwrap();
        let word = Hidden("sesame".into());
        for kind in [&["rsa", "-pkeyopt", "rsa_keygen_bits:2048"][..], &["EC", "-pkeyopt", "ec_paramgen_curve:P-256"]] {
            openssl(&[&["genpkey", "-out", key, "-algorithm"], kind].concat());
            let older = if kind[0] == "EC" { "ec" } else { "rsa" };
            let forms: [(&str, Vec<&str>); 6] = [
                ("AES-128", vec![older, "-traditional", "-aes128"]),
                ("AES-192", vec![older, "-traditional", "-aes192"]),
                ("AES-256", vec![older, "-traditional", "-aes256"]),
                ("DES-EDE3", vec![older, "-traditional", "-des3"]),
                ("PKCS#8", vec!["pkcs8", "-topk8", "-v2", "aes-256-cbc"]),
                ("PKCS#8 with scrypt", vec!["pkcs8", "-topk8", "-scrypt"]),
            ];
            for (form, command) in forms {
                let command: Vec<&str> =
                    command.into_iter().filter(|word| older == "rsa" || *word != "-traditional").collect();
                let pem = openssl(&[&command, &["-in", key, "-passout", "pass:sesame"][..]].concat());
                let read = private_key(&pem, Some(&word)).unwrap_or_else(|error| panic!("{form}: {error}"));
                let provider = rustls::crypto::aws_lc_rs::default_provider();
                provider.key_provider.load_private_key(read).unwrap_or_else(|error| panic!("{form}: {error}"));
                assert!(matches!(private_key(&pem, None), Err(KeyError::Encrypted)), "{form}");
                let wrong = private_key(&pem, Some(&Hidden("sesam".into())));
                assert!(wrong.map_or(true, |key| provider.key_provider.load_private_key(key).is_err()), "{form}");
            }
        }
    }

    #[test]
    fn what_cannot_be_read_says_how_to_decrypt_it() {
        let pem = "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: CAMELLIA-256-CBC,00112233445566778899AABBCCDDEEFF\n\nAAAA\n-----END RSA PRIVATE KEY-----\n";
        let error = private_key(pem.as_bytes(), Some(&Hidden("x".into()))).unwrap_err().to_string();
        assert!(error.contains("CAMELLIA-256-CBC") && error.contains("openssl pkey"), "{error}");
        let cut = pem.replace("CAMELLIA-256-CBC,0011", "AES-256-CBC,00");
        assert!(matches!(private_key(cut.as_bytes(), Some(&Hidden("x".into()))), Err(KeyError::Damaged)));
    }
}
