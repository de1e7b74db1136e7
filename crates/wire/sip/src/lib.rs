//! offhook-wire-sip
