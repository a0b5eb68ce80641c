//! How many live connections there may be, altogether and of one account.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use rollcall_model::ids::AccountId;

use crate::problem::ApiError;

#[derive(Default)]
struct Taken {
    all: usize,
    by_account: HashMap<AccountId, usize>,
}

/// The open connections, counted.
#[derive(Clone, Default)]
pub struct LiveSlots(Arc<Mutex<Taken>>);

/// One open connection; dropping it makes room.
pub struct LiveSlot {
    slots: LiveSlots,
    account: AccountId,
}

impl LiveSlots {
    pub fn take(&self, account: AccountId, all_max: usize, per_account_max: usize) -> Result<LiveSlot, ApiError> {
        let mut taken = self.0.lock();
        let own = taken.by_account.get(&account).copied().unwrap_or(0);
        if taken.all >= all_max || own >= per_account_max {
            return Err(ApiError::TooMany {
                code: "too_many_connections",
                message: "too many live connections; close some first".to_owned(),
                retry_after_s: 10,
            });
        }
        taken.all += 1;
        taken.by_account.insert(account, own + 1);
        Ok(LiveSlot { slots: self.clone(), account })
    }
}

impl Drop for LiveSlot {
    fn drop(&mut self) {
        let mut taken = self.slots.0.lock();
        taken.all -= 1;
        if let Some(own) = taken.by_account.get_mut(&self.account) {
            *own -= 1;
            if *own == 0 {
                taken.by_account.remove(&self.account);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_bounded_and_given_back() {
        let slots = LiveSlots::default();
        let (one, other) = (AccountId::random(), AccountId::random());
        let first = slots.take(one, 3, 2).ok();
        let _second = slots.take(one, 3, 2).ok();
        assert!(slots.take(one, 3, 2).is_err(), "the account's own bound");
        let _third = slots.take(other, 3, 2).ok();
        assert!(slots.take(other, 3, 2).is_err(), "the bound of all");
        drop(first);
        assert!(slots.take(one, 3, 2).is_ok());
    }
}
