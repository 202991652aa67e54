//! A shop: breakfast is ordered and paid, a part comes back, a receipt convinces a stranger;
//! and the meal's photo.

use std::io::Write;

use anyhow::{Context, Result, bail, ensure};
use image::{DynamicImage, ImageFormat, RgbImage};
use teahouse_core::command::{Chat, Command, Reply};
use teahouse_core::moments::{Audience, Command as Moments};
use teahouse_core::pay::Command as Pay;
use teahouse_core::pay::query::{
    Balances, History, Issued, OnePayment, Orders, PaymentView, Receipts, Verify, Waiting,
};
use teahouse_core::pay::tables::{IncomingState, Number, PayState};
use teahouse_core::photos::NewPhoto;
use teahouse_protocols::ids::AssetId;

use super::cast::Person;
use super::programs::ORDERED;
use super::{Cast, Day, Stage, morning};
use crate::town::wait;

/// What Bob pays in, in minor units.
const PURSE: u64 = 2_000;
/// What breakfast costs.
const PRICE: u64 = 650;
/// What of it comes back.
const BACK: u64 = 150;
/// What Bob sends to Mei.
const TREAT: u64 = 300;

const MEAL: &str = "Breakfast!";

/// The shop that is open all day.
pub(super) struct Shop {
    /// Its node.
    pub keeper: Person,
    /// Its money.
    asset: AssetId,
}

impl<W: Write> Day<'_, W> {
    pub(super) fn breakfast(&mut self, stage: &Stage<'_>, cast: &Cast) -> Result<Shop> {
        let data = stage.dir.join("shop");
        let keeper = Person::start_apart(stage.program, &data, "merchant")?.named("Old Street")?;
        morning::join(&keeper, &cast.invite)?;
        let open = Pay::Open { currency: "EUR".into(), name: "Old Street Tea".into() };
        let Reply::Asset { asset } = keeper.ask(Command::Pay(open))? else { bail!("no shop") };
        let offer = Pay::Offer {
            asset,
            title: "Congee and oolong 粥".into(),
            price: PRICE,
            stock: Some(2),
        };
        let Reply::Product { link: poster, .. } = keeper.ask(Command::Pay(offer))? else {
            bail!("no poster")
        };
        for person in [&cast.bob, &cast.mei] {
            let account = person.account()?;
            let create = Pay::Create { asset, account, amount: PURSE, number: None };
            keeper.ask(Command::Pay(create))?;
        }
        let shop = Shop { keeper, asset };
        self.done("Old Street Tea opens, a node of its own, and puts up a poster")?;

        let payment = self.pay(cast, &shop, &poster)?;
        self.give_back(cast, &shop, payment)?;
        self.sold_out(cast, &poster)?;
        self.treat(cast, &shop)?;
        self.menu(stage, cast, &shop.keeper)?;
        self.photo(cast)?;
        Ok(shop)
    }

    fn pay(&mut self, cast: &Cast, shop: &Shop, poster: &str) -> Result<Number> {
        let payment = order(&cast.bob, poster)?;
        wait("the shop's answer", || Ok(seen(&cast.bob, payment)?.state == PayState::Paid))?;
        let order = seen(&cast.bob, payment)?.order.context("paid without an order")?;
        let orders = shop.keeper.query(&Orders { before: None, limit: 0 })?;
        ensure!(orders.iter().any(|o| o.order == order), "the shop knows nothing of the order");
        balance(&cast.bob, shop.asset, PURSE - PRICE)?;
        self.done("Bob orders breakfast by the poster's link and pays; the shop has the order")?;

        let receipts = cast.bob.query(&Receipts { order: Some(order), after: None, limit: 1 })?;
        let text = receipts.into_iter().next().context("there is no receipt")?.text;
        let shown = cast.lin.query(&Verify { text })?;
        let shown = shown.map_err(|why| anyhow::anyhow!("Lin can't check the receipt: {why}"))?;
        ensure!(
            shown.order == order && shown.payer == cast.bob.account()?,
            "the receipt shows another payment"
        );
        self.done("Lin, who never saw the shop, checks Bob's receipt without asking anybody")?;
        Ok(payment)
    }

    fn give_back(&mut self, cast: &Cast, shop: &Shop, payment: Number) -> Result<()> {
        let order = seen(&cast.bob, payment)?.order.context("paid without an order")?;
        shop.keeper.ask(Command::Pay(Pay::Fulfil { order }))?;
        let refund = Pay::Refund {
            order,
            amount: Some(BACK),
            memo: "the tea was cold".into(),
            number: None,
        };
        shop.keeper.ask(Command::Pay(refund))?;
        wait("the refund at Bob", || {
            let seen = seen(&cast.bob, payment)?;
            Ok(seen.fulfilled && seen.refunded.is_some())
        })?;
        balance(&cast.bob, shop.asset, PURSE - PRICE + BACK)?;
        self.done("the tea was cold: the shop hands the order over and gives a part back")
    }

    fn sold_out(&mut self, cast: &Cast, poster: &str) -> Result<()> {
        let second = order(&cast.mei, poster)?;
        wait("Mei's breakfast", || Ok(seen(&cast.mei, second)?.state == PayState::Paid))?;
        let third = order(&cast.bob, poster)?;
        wait("the shop's refusal", || {
            Ok(!matches!(seen(&cast.bob, third)?.state, PayState::Asked | PayState::Sent))
        })?;
        let state = seen(&cast.bob, third)?.state;
        ensure!(
            !matches!(state, PayState::Paid | PayState::Offered),
            "a third of two breakfasts was sold"
        );
        self.done("Mei has the second of two; a third is not sold, and Bob is told so")
    }

    fn treat(&mut self, cast: &Cast, shop: &Shop) -> Result<()> {
        let transfer = Pay::Transfer {
            asset: shop.asset,
            to: cast.mei.account()?,
            amount: TREAT,
            memo: "my treat".into(),
            number: None,
        };
        cast.bob.ask(Command::Pay(transfer))?;
        wait("what Bob sent, at Mei", || {
            let all = cast.mei.query(&Waiting {})?;
            Ok(all.iter().any(|w| w.state == IncomingState::Waits))
        })?;
        let waits = cast.mei.query(&Waiting {})?;
        let order = waits.first().context("nothing waits")?.order;
        cast.mei.ask(Command::Pay(Pay::Answer { order, accept: true }))?;
        balance(&cast.mei, shop.asset, PURSE - PRICE + TREAT)?;
        balance(&cast.bob, shop.asset, PURSE - PRICE + BACK - TREAT)?;
        self.done("Bob sends Mei money through the shop; she takes it; both statements say so")
    }

    fn photo(&mut self, cast: &Cast) -> Result<()> {
        let Cast { mei, bob, lin, chat, .. } = cast;
        let photo: NewPhoto = bob.take_in(&meal()?)?;
        let send = Chat::SendPhotos {
            topic: *chat,
            text: MEAL.into(),
            photos: vec![photo.clone()],
            reply_to: None,
        };
        let Reply::Message { message, .. } = bob.ask(Command::Chat(send))? else {
            bail!("the photo was not sent")
        };
        wait("the photo at Mei", || Ok(mei.messages(*chat)?.iter().any(|m| m.id == message)))?;
        let picture = mei.picture(*chat, message)?;
        ensure!(picture == bob.picture(*chat, message)?, "Mei has another picture");
        self.done("Bob sends the meal's photo; Mei has it in full size, from his device")?;

        let post = Moments::Post {
            text: MEAL.into(),
            photos: vec![mei.take_in(&picture)?],
            audience: Audience::Friends,
        };
        mei.ask(Command::Moments(post))?;
        wait("Mei's photo at Lin", || Ok(lin.post(MEAL)?.is_some()))?;
        let seen = lin.post(MEAL)?.context("the post is gone")?;
        ensure!(!lin.picture(seen.topic, seen.id)?.is_empty(), "Lin's picture is empty");
        self.done("Mei posts it to her friends; Lin looks at it")
    }

    /// At the end of the day the shop's books and everybody's statements say the same.
    pub(super) fn night(&mut self, cast: &Cast, shop: &Shop) -> Result<()> {
        let issued = shop.keeper.query(&Issued {})?;
        ensure!(issued.len() == 1, "the shop has another money");
        balance(&cast.bob, shop.asset, PURSE - PRICE + BACK - TREAT - ORDERED)?;
        balance(&cast.mei, shop.asset, PURSE - PRICE + TREAT)?;
        let lines = cast.bob.query(&History { asset: shop.asset, before: None, limit: 0 })?;
        ensure!(!lines.is_empty(), "Bob's statement is empty");
        self.done("the shop's statements and everybody's wallets say the same")?;

        let before = cast.mei.messages(cast.chat)?;
        let posts = cast.mei.post(MEAL)?;
        cast.mei.rebuild()?;
        ensure!(before == cast.mei.messages(cast.chat)?, "a rebuild shows other messages");
        ensure!(posts == cast.mei.post(MEAL)?, "a rebuild shows another timeline");
        self.done("Mei's lists are derived again from the signed log: the same")
    }
}

fn order(person: &Person, poster: &str) -> Result<Number> {
    let order = Pay::Order {
        lines: vec![(poster.to_owned(), 1)],
        note: "less sugar".into(),
        up_to: Some(PRICE),
        number: None,
    };
    match person.ask(Command::Pay(order))? {
        Reply::Payment { payment } => Ok(payment),
        other => bail!("an order gave {other:?}"),
    }
}

fn seen(person: &Person, payment: Number) -> Result<PaymentView> {
    person.query(&OnePayment { payment })?.context("a payment is gone")
}

/// Waits until a person's balance is so, as the shop signed it.
fn balance(person: &Person, asset: AssetId, minor: u64) -> Result<()> {
    wait(&format!("a balance of {minor}"), || {
        let all = person.query(&Balances {})?;
        Ok(all.iter().any(|b| b.asset == asset && b.minor == Some(minor)))
    })
}

/// A picture as a camera makes one: too detailed to be small.
fn meal() -> Result<Vec<u8>> {
    let picture = RgbImage::from_fn(1200, 800, |x, y| {
        let grain = ((x * 7919) ^ (y * 104_729)) % 64;
        image::Rgb([(x % 192 + grain) as u8, (y % 192 + grain) as u8, (96 + grain) as u8])
    });
    let mut file = std::io::Cursor::new(Vec::new());
    DynamicImage::from(picture)
        .write_to(&mut file, ImageFormat::Jpeg)
        .context("a picture of the meal")?;
    Ok(file.into_inner())
}
