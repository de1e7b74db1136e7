//! offhook-sfu-core
