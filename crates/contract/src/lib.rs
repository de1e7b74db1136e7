//! offhook-contract
