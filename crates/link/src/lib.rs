//! offhook-link
