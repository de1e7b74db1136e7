//! offhook-control
