//! offhook-wire-stun
