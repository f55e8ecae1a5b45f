//! What is sensitive, and what is not.

use std::collections::{BTreeMap, HashMap};

use serde::{Deserialize, Serialize, Serializer};
use serde_json::json;

use super::*;

fn policy() -> SensitivePolicy {
    SensitivePolicy::new().names(["password", "*_token", "db.url", "/card/number"]).unwrap()
}

#[test]
fn by_the_name_of_the_value() {
    let policy = policy();
    for name in ["password", "login.password", "x_token", "db.url", "my.db.url"] {
        assert_eq!(policy.decide_name(name), Decision::Seal, "{name}");
    }
    for name in ["", "Password", "passwords", "token", "url", "db_url", "number", "card.number2"] {
        assert_eq!(policy.decide_name(name), Decision::Plain, "{name}");
    }
}

#[test]
fn case_only_matters_when_it_should() {
    let lax = policy().case_insensitive();
    for name in ["PASSWORD", "Api_Token", "DB.Url"] {
        assert_eq!(policy().decide_name(name), Decision::Plain, "{name}");
        assert_eq!(lax.decide_name(name), Decision::Seal, "{name}");
        assert_eq!(lax.decide("v", &json!([{ "x": { name: 1 } }])), Decision::Seal, "{name}");
    }
}

#[derive(Serialize)]
struct Login {
    user: &'static str,
    password: u32,
}

#[derive(Serialize)]
#[serde(tag = "kind")]
enum Tagged {
    Login(Login),
    Other { a: u8 },
}

#[derive(Serialize)]
enum Outer {
    #[serde(rename = "api_token")]
    Token(u8),
    #[serde(rename = "api_token")]
    Tokens(u8, u8),
    #[serde(rename = "api_token")]
    Named {
        a: u8,
    },
    Struct {
        password: u8,
    },
    Tuple(u8, Login),
    Unit,
    Fine(u8),
}

#[derive(Serialize)]
struct Flat {
    a: u8,
    #[serde(flatten)]
    login: Login,
}

#[derive(Serialize)]
struct Newtype<T>(T);

#[test]
fn by_a_name_at_any_depth() {
    let login = || Login { user: "u", password: 5 };
    let policy = policy();
    let seals = |what: &str, value: &dyn Fn() -> Decision| {
        assert_eq!(value(), Decision::Seal, "{what}");
    };
    seals("struct", &|| policy.decide("v", &login()));
    seals("list", &|| policy.decide("v", &vec![(1, Some(Newtype(login())))]));
    seals("map", &|| policy.decide("v", &HashMap::from([("password", 1)])));
    seals("map of chars", &|| {
        let p = SensitivePolicy::new().name("p").unwrap();
        p.decide("v", &BTreeMap::from([('p', 1)]))
    });
    seals("map of numbers", &|| {
        let p = SensitivePolicy::new().name("17").unwrap();
        p.decide("v", &BTreeMap::from([(17_u8, 1)]))
    });
    seals("deep", &|| policy.decide("v", &json!({ "a": [[{ "b": { "x_token": null } }]] })));
    seals("second entry", &|| policy.decide("v", &json!({ "a": { "b": 1 }, "password": 2 })));
    seals("path", &|| policy.decide("v", &json!({ "x": { "db": [{ "url": 1 }] } })));
    seals("path from the name", &|| policy.decide("db", &json!({ "url": 1 })));
    seals("flat path", &|| policy.decide("v", &json!({ "db.url": 1 })));
    seals("pointer", &|| policy.decide("v", &json!({ "card": { "number": 1 } })));
    seals("pointer from the name", &|| policy.decide("card", &json!({ "number": 1 })));
    seals("newtype variant", &|| policy.decide("v", &Outer::Token(1)));
    seals("tuple variant", &|| policy.decide("v", &Outer::Tokens(1, 2)));
    seals("struct variant", &|| policy.decide("v", &Outer::Named { a: 1 }));
    seals("field of a variant", &|| policy.decide("v", &Outer::Struct { password: 1 }));
    seals("inside a tuple variant", &|| policy.decide("v", &Outer::Tuple(1, login())));
    seals("internally tagged", &|| policy.decide("v", &Tagged::Login(login())));
    seals("flattened", &|| policy.decide("v", &Flat { a: 1, login: login() }));

    for (what, found) in [
        ("url alone", policy.decide("v", &json!({ "url": 1, "db": { "x": { "url": 1 } } }))),
        ("left path", policy.decide("v", &json!({ "db": 1, "url": 2 }))),
        ("pointer too deep", policy.decide("v", &json!({ "a": { "card": { "number": 1 } } }))),
        ("a value is no name", policy.decide("v", &json!({ "a": "password", "b": ["password"] }))),
        ("unit variant", policy.decide("v", &(Outer::Unit, Outer::Fine(1)))),
        ("tagged", policy.decide("v", &Tagged::Other { a: 1 })),
    ] {
        assert_eq!(found, Decision::Plain, "{what}");
    }
}

#[derive(Serialize, Deserialize)]
struct Card {
    holder: String,
    digits: Sensitive<String>,
}

#[derive(Serialize)]
struct FlatCard {
    a: u8,
    #[serde(flatten)]
    card: Sensitive<Card>,
}

#[derive(Serialize)]
#[serde(tag = "kind")]
enum TaggedCard {
    Card(Sensitive<Card>),
}

#[derive(Serialize)]
#[serde(untagged)]
enum Untagged {
    Card(Sensitive<u8>),
}

#[test]
fn a_mark_is_found_wherever_it_is() {
    let card = || Card { holder: "h".into(), digits: Sensitive::new("4111".into()) };
    let policy = SensitivePolicy::new();
    assert_eq!(policy.decide("v", &card()), Decision::Seal);
    assert_eq!(policy.decide("v", &vec![Some(("x", card()))]), Decision::Seal);
    assert_eq!(policy.decide("v", &BTreeMap::from([(Sensitive::new("k"), 1)])), Decision::Seal);
    assert_eq!(policy.decide("v", &FlatCard { a: 1, card: card().into() }), Decision::Seal);
    assert_eq!(policy.decide("v", &TaggedCard::Card(card().into())), Decision::Seal);
    assert_eq!(policy.decide("v", &Untagged::Card(1.into())), Decision::Seal);
    assert_eq!(policy.decide("v", &None::<Card>), Decision::Plain);
    // And it leaves nothing behind.
    assert_eq!(policy.decide("v", &"plain"), Decision::Plain);
}

#[test]
fn a_mark_is_transparent_and_redacted() {
    let card = Card { holder: "h".into(), digits: Sensitive::new("4111".into()) };
    let text = serde_json::to_string(&card).unwrap();
    assert_eq!(text, r#"{"holder":"h","digits":"4111"}"#);
    let mut back: Card = serde_json::from_str(&text).unwrap();
    assert_eq!(back.digits.expose(), "4111");
    back.digits.expose_mut().push('2');
    assert_eq!(format!("{:?} {:#?}", back.digits, back.digits), "<redacted> <redacted>");
    assert_eq!(back.digits.into_inner(), "41112");
}

#[test]
fn everything_but() {
    let policy = SensitivePolicy::encrypt_all_except(["status", "log.*"]).unwrap();
    assert_eq!(policy.decide_name("anything"), Decision::Seal);
    assert_eq!(policy.decide_name("status"), Decision::Plain);
    assert_eq!(policy.decide_name("log.line"), Decision::Plain);
    assert_eq!(policy.decide("status", &json!({ "any": "thing" })), Decision::Plain);
    assert_eq!(policy.decide("status", &Sensitive::new(1)), Decision::Seal);
    let stricter = policy.name("any").unwrap();
    assert_eq!(stricter.decide("status", &json!({ "any": "thing" })), Decision::Seal);
}

#[test]
fn predicates_are_asked_for_every_name() {
    let policy = SensitivePolicy::new().predicate(|name| name.ends_with('#'));
    assert!(!policy.is_empty());
    assert_eq!(policy.decide_name("card#"), Decision::Seal);
    assert_eq!(policy.decide("v", &json!({ "a": { "card#": 1 } })), Decision::Seal);
    assert_eq!(policy.decide("v", &json!({ "a": { "card": 1 } })), Decision::Plain);
}

#[test]
fn the_strongest_decision_wins() {
    let policy = policy().omit("cvv").unwrap();
    assert_eq!(policy.decide_name("cvv"), Decision::Omit);
    assert_eq!(policy.decide("v", &json!({ "password": 1, "z": { "cvv": 2 } })), Decision::Omit);
    assert_eq!(policy.decide("v", &json!({ "cvv": 1, "password": 2 })), Decision::Omit);
    assert_eq!(policy.decide("password", &json!({ "cvv": 1 })), Decision::Omit);
    assert_eq!(policy.decide("v", &json!({ "password": 1 })), Decision::Seal);
}

#[test]
fn error_texts_go_with_the_policy() {
    assert_eq!(SensitivePolicy::new().decide_errors(), Decision::Plain);
    assert_eq!(policy().decide_errors(), Decision::Seal);
    assert_eq!(policy().plain_errors().decide_errors(), Decision::Plain);
}

/// Shows a name only to machines, or only to people.
struct TwoFaced {
    to_people: bool,
}

impl Serialize for TwoFaced {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() == self.to_people {
            BTreeMap::from([("password", 1)]).serialize(serializer)
        } else {
            serializer.serialize_u8(1)
        }
    }
}

#[test]
fn both_faces_of_a_value_are_looked_at() {
    for to_people in [false, true] {
        assert_eq!(policy().decide("v", &TwoFaced { to_people }), Decision::Seal, "{to_people}");
    }
}

struct Refuses;

impl Serialize for Refuses {
    fn serialize<S: Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        Err(serde::ser::Error::custom("no"))
    }
}

#[test]
fn what_cannot_be_looked_at_is_sensitive() {
    assert_eq!(policy().decide("v", &Refuses), Decision::Seal);
    assert_eq!(policy().decide("v", &BTreeMap::from([((1, 2), 3)])), Decision::Seal);
}

#[test]
fn redacted_for_people() {
    let policy = policy();
    let value = json!({ "password": "hunter2" });
    let shown = policy.redact("v", &value);
    assert_eq!(format!("{shown:?} {shown}"), "<redacted> <redacted>");
    assert_eq!(serde_json::to_string(&shown).unwrap(), "\"<redacted>\"");
    let open = policy.redact("user", "ann");
    assert_eq!(format!("{open:?} {open}"), "\"ann\" ann");
    assert_eq!(serde_json::to_string(&open).unwrap(), "\"ann\"");
}
