//! offhook-sip-core
