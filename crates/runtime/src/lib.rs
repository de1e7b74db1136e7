//! offhook-runtime
