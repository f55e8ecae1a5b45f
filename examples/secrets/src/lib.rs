//! A flow full of secrets: in its input, context, results, output, errors and resources.

use std::fmt;
use std::future::{Future, pending, ready};

use resurge::flow::{Attached, Resource, StepInfo};
use resurge::{Ctx, FlowResult, Result, SensitivePolicy, StepError};
use resurge_example_driver::Effects;
use serde::{Deserialize, Serialize};

/// In every secret of the demo, and nowhere else.
pub const CANARY: &str = "canary-51c7";
/// A secret number.
pub const PIN: u64 = u64::from_be_bytes(*b"canarypn");

/// What is sensitive, wherever it is: by name.
///
/// # Errors
/// Never, with these names.
pub fn policy() -> Result<SensitivePolicy, resurge::seal::SealError> {
    SensitivePolicy::new().names(["pwd", "password", "pin", "*_token"])
}

/// The input.
#[derive(Clone, Serialize, Deserialize)]
pub struct Login {
    /// Anybody may see it.
    pub user: String,
    /// Nobody may.
    pub password: String,
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Login").field("user", &self.user).finish_non_exhaustive()
    }
}

/// The output.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    /// Of the login.
    pub user: String,
    /// What the step returned.
    pub api_token: String,
    /// What the context held, across all processes.
    pub pin: u64,
    /// The same, nested.
    pub database: Database,
}

/// A context value with a secret in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Database {
    /// Anybody may see it.
    pub host: String,
    /// Nobody may.
    pub password: String,
}

/// The one who signs up.
pub fn login() -> Login {
    Login { user: "john".to_owned(), password: format!("{CANARY}-password") }
}

/// What he must get.
pub fn account() -> Account {
    let password = format!("{CANARY}-database");
    Account {
        user: login().user,
        api_token: format!("{CANARY}-token"),
        pin: PIN,
        database: Database { host: "db-1".to_owned(), password },
    }
}

struct Sessions;

/// What of a session is kept while the run is failed.
#[derive(Serialize, Deserialize)]
struct Kept {
    password: String,
}

impl Resource for Sessions {
    type Live = String;
    type State = Kept;

    fn init(&self, _: StepInfo) -> impl Future<Output = FlowResult<String>> + Send {
        say("[session] opened");
        ready(Ok(format!("{CANARY}-session")))
    }

    fn suspend(&self, live: &String) -> impl Future<Output = FlowResult<Kept>> + Send {
        say("[session] suspended");
        ready(Ok(Kept { password: live.clone() }))
    }

    fn recover(&self, kept: Kept, _: StepInfo) -> impl Future<Output = FlowResult<String>> + Send {
        let same = kept.password == format!("{CANARY}-session");
        say(&format!("[session] recovered, its secret as it was: {same}"));
        ready(Ok(kept.password))
    }
}

/// Fails at `connect` until it is resumed; in `charge` it waits to be killed if `hang` says so.
///
/// # Errors
/// When it runs for the first time, with a secret in the text.
pub async fn sign_up(ctx: Ctx, login: Login, effects: Effects, hang: bool) -> FlowResult<Account> {
    let Account { database, .. } = account();
    ctx.set("user", &login.user)?;
    ctx.set("pwd", &login.password)?;
    ctx.set("pin", &PIN)?;
    ctx.set("database", &database)?;
    let session: Attached<Sessions> = ctx.resource("session", Sessions).await?;
    let token = ctx
        .step("api_token", || ready(effects.leave("api_token").map(|_| format!("{CANARY}-token"))));
    let api_token = token.await?;
    ctx.step("connect", || ready(connect(&ctx, &login, &effects))).await?;
    ctx.step("charge", || async {
        effects.leave("charge")?;
        let secret = session.live()?;
        say(&format!("[charge] with the session's secret: {}", secret.contains(CANARY)));
        if hang {
            say("[charge] waiting");
            pending::<()>().await;
        }
        Ok::<_, StepError>(())
    })
    .await?;
    let lost = || StepError::permanent("a context value is lost");
    Ok(Account {
        user: ctx.get("user")?.ok_or_else(lost)?,
        api_token,
        pin: ctx.get("pin")?.ok_or_else(lost)?,
        database: ctx.get("database")?.ok_or_else(lost)?,
    })
}

fn connect(ctx: &Ctx, login: &Login, effects: &Effects) -> FlowResult<()> {
    effects.leave("connect")?;
    if ctx.recovering() {
        return Ok(());
    }
    Err(StepError::permanent(format!("refused for {}", login.password)))
}

#[expect(clippy::print_stdout, reason = "the demo shows what runs")]
fn say(line: &str) {
    println!("{line}");
}
