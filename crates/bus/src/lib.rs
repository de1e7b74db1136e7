//! offhook-bus
