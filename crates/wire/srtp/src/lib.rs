//! offhook-wire-srtp
