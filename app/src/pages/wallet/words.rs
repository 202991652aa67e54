//! What the Wallet page says.

use teahouse_node::core::pay::tables::{IncomingState, OrderState, PayState};

use crate::strings::{either, words};

words! {
    title = "Wallet", "钱包";

    // The lists
    pay = "Pay by link", "用链接付款";
    send = "Send money", "转账";
    balances = "Balances", "余额";
    waits = "Sent to you", "收到的转账";
    payments = "Paid from this device", "本设备的付款";
    older = "Older ones are kept, but not shown.", "更早的记录仍在，但不再显示。";
    choose = "Choose a balance or a payment.", "请选择余额或付款。";
    empty = "No money here yet", "还没有余额";
    empty_how = "Pay a shop in advance and it keeps a balance for you: tell it your account id, and pay in. Then paste a shop's link (teahouse:order/…) under “Pay by link”. A balance is what a shop owes you, signed; it is no bank.", "先在商家处充值，商家会为你记一笔余额：把账户编号告诉商家并付款，然后在“用链接付款”里粘贴商家的链接（teahouse:order/…）。余额是商家签名承认的欠款，并非银行存款。";
    copy_account = "Copy my account id", "复制我的账户编号";
    copied = "Copied.", "已复制。";

    // A balance
    nothing_signed = "Nothing signed has come yet", "尚未收到签名的余额";
    held = "Held for others", "为他人冻结";
    as_signed = "As its issuer signed it last. If the issuer vanishes, you hold signed evidence, and no money.", "以发行方最近一次签名为准。若发行方消失，你只有签名证据，没有钱。";
    refresh = "Ask the issuer again", "向发行方查询";
    asked_again = "Asked: it answers when it is met.", "已查询，遇到发行方时会有答复。";
    too_long = "too long", "超出长度";
    heard = "Heard last", "最近联系";
    issuer = "Issuer", "发行方";
    statement = "Statement, as the issuer signed it", "发行方签名的账单";
    statement_empty = "Nothing on it yet.", "还没有记录。";
    statement_waits = "Asking for it…", "正在读取…";

    // Paying
    pay_title = "Pay by a shop's link", "用商家链接付款";
    link = "Link of what you want", "商品链接";
    quantity = "How many", "数量";
    note = "Note for the shop", "给商家的备注";
    ask_price = "Ask for the price", "询价";
    asking = "Asking…", "正在询价…";
    ask_how = "Nothing is paid yet: the shop signs what it wants, and you decide.", "此时不会付款：商家会签名报价，由你决定。";
    poster_says = "The link says", "链接上的信息";
    each = "each", "每份";
    too_much = "More than can be counted.", "数目过大。";

    // A payment
    confirm_title = "Do you pay this?", "确认付款？";
    confirm_how = "This is what the shop signed. Paying can't be taken back by you; the shop can refund it.", "这是商家签名的报价。付款后你不能自行撤回，商家可以退款。";
    paid_to = "To", "收款方";
    paid_for = "For", "用途";
    amount = "Amount", "金额";
    whose = "Whose money", "谁的钱";
    begun = "When", "时间";
    given_back = "Given back", "已退款";
    state = "State", "状态";
    whose_unknown = "Not known yet: its issuer has not answered.", "尚不清楚：发行方还没有答复。";
    give_up = "Don't pay", "不付款";
    give_up_asked = "Stop asking", "停止询价";
    sent_how = "You signed this, and no answer has come. It may be paid or not: nobody knows yet. The same order is said again until the shop answers, never a second one, and after an hour it can only be refused.", "你已签名，尚未收到答复，可能已付也可能未付。同一订单会重复发送直到商家答复，绝不会付第二次；一小时后只会被拒绝。";
    asked_how = "The shop is asked when it is met. Nothing is paid until you say so.", "遇到商家时会询价。你确认之前不会付款。";
    held_how = "The issuer holds it until it is taken. What nobody takes comes back.", "发行方会保管，直到对方收款；无人收取则退回。";
    receipt = "Receipt", "收据";
    receipt_how = "Anybody can check this text, without asking anybody. It does not show what was given back since.", "任何人都可以独立核验此文本。它不显示之后的退款。";
    receipt_copy = "Copy receipt", "复制收据";
    receipt_none = "There is no receipt of it here.", "这里没有它的收据。";
    gone = "This payment is not here any more.", "这笔付款已不在。";
    back = "Back", "返回";

    // Sending
    send_title = "Send money to a friend", "给朋友转账";
    send_how = "It goes through whoever owes it to you: they hold it for a day, until your friend takes it. What is not taken comes back.", "由欠你这笔钱的发行方保管一天，等朋友收款；未收取则退回。";
    which_money = "Which money", "用哪种余额";
    to_whom = "To whom", "收款人";
    how_much = "How much", "金额";
    how_much_hint = "5.00", "5.00";
    memo = "Note for them", "附言";
    no_money = "You have no balance to send from yet.", "还没有可转账的余额。";
    no_friends = "Only friends can be sent money, and you have none here yet.", "只能转给朋友，你还没有朋友。";
    review = "Review", "核对";
    change = "Change", "修改";
    send_now = "Send it", "确认转账";
    sending = "Sending…", "正在转账…";
    not_more = "That is more than your balance.", "超过了余额。";
    not_nothing = "Say an amount above nothing.", "请输入大于零的金额。";

    // What friends sent
    take = "Take it", "收款";
    decline = "Decline", "拒收";
    take_how = "It is in the issuer's hands until you take it. Taken, it is part of your balance there.", "在你收款之前由发行方保管；收款后计入你在那里的余额。";
    unknown_amount = "Money that is not known here", "未知的钱";
    money_unknown = "This money is not known here: ask who sent it whose it is before you take it.", "这里不认识这种钱：收款前先问清是谁发行的。";
    until = "To be taken until", "收款期限";
    from = "From", "来自";

    // A shop of one's own
    shop = "Your shop", "我的店铺";
    open_shop = "Open a shop", "开店";
    open_title = "Open a shop", "开店";
    open_how = "Customers pay in with you, and you owe them for it: what you create here is a debt of yours. This device keeps the books, and must be on to be paid at. Lose it and the balances are lost with it.", "顾客在你这里充值，你就欠他们相应的商品：这里创建的余额是你的债务。账本保存在本设备上，收款时本设备必须在线；设备丢失则账目一并丢失。";
    shop_name = "Name of the shop", "店名";
    currency = "Currency, three letters", "货币（三个字母）";
    open_now = "Open it", "开店";
    products = "For sale", "商品";
    products_none = "Nothing for sale yet.", "还没有商品。";
    product_new = "Something new", "新商品";
    product_add = "Put up for sale", "上架";
    product_title = "What it is", "商品名称";
    price = "Price", "价格";
    stock = "How many there are", "库存";
    stock_hint = "any number", "不限";
    stock_wrong = "Write a number, or nothing for any number.", "请填写数字；留空表示不限。";
    poster = "Poster", "海报";
    poster_qr = "QR code of the product", "商品二维码";
    poster_how = "Whoever has this link can ask what it costs. An old poster shows the old price; the shop's offer counts.", "有此链接的人都可以询价。旧海报显示旧价格，以店铺报价为准。";
    poster_too_long = "This link is too long for a QR code. Send the link.", "链接太长，无法生成二维码，请发送链接。";
    link_copy = "Copy link", "复制链接";
    sell = "Sell again", "重新上架";
    sell_not = "Take off sale", "下架";
    orders = "Orders", "订单";
    orders_none = "No orders yet. Show somebody a poster.", "还没有订单。给顾客看海报吧。";
    fulfil = "Handed over", "已交付";
    refund = "Give back", "退款";
    refund_title = "Give something back", "退款给顾客";
    refund_amount = "How much to give back", "退款金额";
    refund_more = "That is more than is left of it.", "超过了可退金额。";
    refund_now = "Give it back", "确认退款";
    transfer = "A transfer between customers", "顾客之间的转账";
    credit = "Credit a customer", "为顾客充值";
    credit_how = "For what somebody paid in by other means, in cash for example. You owe it to them from then on.", "用于顾客以其他方式（如现金）支付的充值，此后你欠他们这笔钱。";
    credit_whom = "Whom", "顾客";
    credit_friend = "A friend", "朋友";
    credit_account = "Account id", "账户编号";
    credit_wrong = "An account id has 64 digits; the customer copies it in their wallet.", "账户编号有64位，顾客可在钱包里复制。";
    credit_stranger = "this account", "此账户";
    credit_now = "Credit it", "确认充值";

    // Whose
    nobody = "Unnamed", "未命名";
}

/// A name that somebody gave themselves.
#[must_use]
pub fn quoted(name: &str) -> String {
    let name = if name.is_empty() { nobody() } else { name };
    format!("“{name}”")
}

/// Money of somebody who is no contact.
#[must_use]
pub fn owed_by(name: &str, account: &str) -> String {
    let name = quoted(name);
    either(
        format!(
            "Owed to you by an account that calls itself {name} ({account} …), and that is no friend of yours."
        ),
        format!("由自称{name}的账户（{account} …）欠你，对方不是你的朋友。"),
    )
}

/// Money of a friend's.
#[must_use]
pub fn owed_by_known(known: &str, name: &str, account: &str) -> String {
    let name = quoted(name);
    either(
        format!("Owed to you by your friend {known} ({account} …), who calls it {name}."),
        format!("由你的朋友{known}（{account} …）欠你，名称为{name}。"),
    )
}

/// Money of one's own.
#[must_use]
pub fn owed_by_me(name: &str) -> String {
    let name = quoted(name);
    either(format!("Issued by yourself as {name}."), format!("由你自己发行，名称为{name}。"))
}

/// Money of one's own, in a few words.
#[must_use]
pub fn own_money(name: &str) -> String {
    let name = quoted(name);
    either(format!("{name}, your own"), format!("{name}，你自己的"))
}

/// Money of a friend's, in a few words.
#[must_use]
pub fn known_money(known: &str, name: &str) -> String {
    let name = quoted(name);
    either(format!("{name} of {known}"), format!("{known}的{name}"))
}

/// A shop that is no contact.
#[must_use]
pub fn shop_called(name: &str, account: &str) -> String {
    let name = quoted(name);
    either(
        format!("{name}, account {account} …, no friend of yours"),
        format!("{name}，账户{account} …，不是你的朋友"),
    )
}

/// A shop of a friend's.
#[must_use]
pub fn known_shop(known: &str, name: &str, account: &str) -> String {
    let name = quoted(name);
    either(
        format!("{name} of your friend {known}, account {account} …"),
        format!("你的朋友{known}的{name}，账户{account} …"),
    )
}

/// A friend.
#[must_use]
pub fn friend_called(known: &str, account: &str) -> String {
    either(
        format!("your friend {known}, account {account} …"),
        format!("你的朋友{known}，账户{account} …"),
    )
}

/// Where a payment stands, in a word or two.
#[must_use]
pub fn payment_state(state: PayState, fulfilled: bool, refunded: bool) -> &'static str {
    match state {
        PayState::Asked => either("price asked", "已询价"),
        PayState::Offered => either("yours to decide", "待你确认"),
        PayState::Sent => either("not known yet", "尚不清楚"),
        PayState::Paid if refunded => either("paid, refunded", "已付，有退款"),
        PayState::Paid if fulfilled => either("paid, handed over", "已付，已交付"),
        PayState::Paid => either("paid", "已付"),
        PayState::Held { .. } => either("held", "待收款"),
        PayState::Returned => either("came back", "已退回"),
        PayState::Refused { .. } => either("not paid", "未付"),
    }
}

/// Where something that was sent stands.
#[must_use]
pub fn waiting_state(state: IncomingState) -> &'static str {
    match state {
        IncomingState::Waits => either("waits for you", "等你收款"),
        IncomingState::Accepting => {
            either("taken; the issuer has not answered yet", "已收取，等待发行方答复")
        }
        IncomingState::Accepted => either("taken", "已收款"),
        IncomingState::Declined => either("declined", "已拒收"),
        IncomingState::Gone => either("not there any more", "已不在"),
    }
}

/// A payment's line in the list: how much, to whom, and where it stands.
#[must_use]
pub fn payment_line(amount: &str, to: &str, state: &str) -> String {
    either(format!("{amount} to {to}: {state}"), format!("{amount} 付给{to}：{state}"))
}

/// Something sent, in the list.
#[must_use]
pub fn sent_by(amount: &str, from: &str) -> String {
    either(format!("{amount} from {from}"), format!("{from}转来 {amount}"))
}

/// Where an order of the shop's stands.
#[must_use]
pub fn order_state(state: OrderState) -> &'static str {
    match state {
        OrderState::Paid { refunded: 0, fulfilled: false } => either("paid", "已付"),
        OrderState::Paid { refunded: 0, fulfilled: true } => {
            either("paid, handed over", "已付，已交付")
        }
        OrderState::Paid { .. } => either("paid, something given back", "已付，有退款"),
        OrderState::Held => either("held for a friend", "为朋友保管"),
        OrderState::Taken => either("taken by a friend", "朋友已收取"),
        OrderState::Returned => either("went back", "已退回"),
        OrderState::Refused => either("refused", "已拒绝"),
    }
}

/// What a product costs, and how many there are.
#[must_use]
pub fn product_line(price: &str, stock: Option<u32>, open: bool) -> String {
    let stock = stock.map(|n| either(format!(", {n} left"), format!("，剩{n}")));
    let off = if open { "" } else { either(", not for sale", "，已下架") };
    format!("{price}{}{off}", stock.unwrap_or_default())
}

/// What is given back if nothing is said.
#[must_use]
pub fn refund_hint(all: &str) -> String {
    either(format!("all of it: {all}"), format!("全部：{all}"))
}

/// The question before a refund.
#[must_use]
pub fn refund_this(amount: &str, to: &str) -> String {
    either(format!("Give {amount} back to {to}?"), format!("退还{to} {amount}？"))
}

/// The question before value is created.
#[must_use]
pub fn credit_this(amount: &str, to: &str) -> String {
    either(format!("Owe {amount} to {to}?"), format!("确认欠{to} {amount}？"))
}

/// The button that pays.
#[must_use]
pub fn pay_amount(amount: &str) -> String {
    either(format!("Pay {amount}"), format!("支付 {amount}"))
}

/// The poster said another price.
#[must_use]
pub fn poster_said(price: &str) -> String {
    either(
        format!("The link said {price}. The shop asks for what stands here."),
        format!("链接上写的是 {price}，商家的报价以此处为准。"),
    )
}

/// What is to be sent.
#[must_use]
pub fn send_this(amount: &str, to: &str) -> String {
    either(format!("Send {amount} to {to}?"), format!("向{to}转账 {amount}？"))
}

/// A balance for the ear.
#[must_use]
pub fn balance(amount: &str, whose: &str) -> String {
    format!("{amount}, {whose}")
}
