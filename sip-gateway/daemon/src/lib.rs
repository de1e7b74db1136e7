//! offhook-sip
