//! offhook-control-core
