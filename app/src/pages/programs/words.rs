//! What the programs' page says.

use teahouse_node::protocols::package::Power;

use crate::strings::{either, words};

words! {
    title = "Programs", "小程序";
    empty = "No programs yet", "还没有小程序";
    empty_how = "Paste a link that somebody gave you. A program runs shut in: it gets nothing that you did not allow.", "粘贴别人给你的链接。小程序在隔离环境中运行，没有你的允许什么也得不到。";
    link = "Link to a program", "小程序链接";
    install = "Install", "安装";
    open = "Open", "打开";
    remove = "Remove", "移除";
    remove_what = "Remove this program?", "移除这个小程序？";
    remove_how = "What it keeps and what you allowed it goes with it, on all your devices.", "它保存的内容和你的授权会一并在你的所有设备上删除。";
    waiting = "Nobody who has it was met yet", "还没遇到有它的人";
    coming = "On its way", "正在获取";
    back = "All programs", "全部小程序";
    again = "Start again", "重新打开";
    ended = "It was stopped", "它已停止";
    opening = "Opening…", "正在打开…";
    busy = "It has too much to do just now.", "它现在忙不过来。";
    allow = "Allow", "允许";
    refuse = "Don't allow", "不允许";
    allowed = "allowed", "已允许";
    refused = "not allowed", "不允许";
    not_asked = "not asked yet", "尚未询问";
    take_back = "Take back", "收回";
    says = "Its developer says:", "开发者的说明：";
    from_teahouse = "Teahouse asks you", "茶馆询问";
    pay_with = "Paid through Teahouse", "通过茶馆付款";
    pay_asks = "Teahouse asks you: do you want to pay this?", "茶馆询问：确定付款吗？";
    pay_yes = "Pay", "付款";
    pay_no = "Don't pay", "不付款";
    pay_balance = "Your balance there:", "你在那里的余额：";
    pay_asking = "The shop is asked in which money…", "正在向商家确认币种…";
    picture_broken = "Picture: can't be shown", "图片：无法显示";
    card_send = "Send to a chat…", "发送到聊天…";
    card_sent = "The card is sent", "卡片已发送";
    too_much = "It wants to show more than can be drawn: some of it is left out.", "它想显示的内容过多，部分未绘制。";
    card_copy = "Copy the link", "复制链接";
    card_not = "Not now", "暂不";
    card_copied = "Copied: send it to whom you like. Your node gives the program to who has the link.", "已复制，可以发给任何人。持有链接的人可从你的节点获取此小程序。";
    less = "less", "减少";
    more = "more", "增加";
}

/// What a power is, to the person who is asked for it.
#[must_use]
pub fn power(power: Power) -> &'static str {
    match power {
        Power::Login => either("know you again, by a key for it alone", "用专属密钥认出你"),
        Power::Storage => either("keep things on this device", "在此设备上保存内容"),
        Power::State => either("share things with the members of a chat", "与聊天成员共享内容"),
        Power::Call => either("ask its developer's node", "访问开发者的节点"),
        Power::Pay => either("show a button to pay", "显示付款按钮"),
        Power::Share => either("offer cards for you to send", "提供可发送的卡片"),
    }
}

/// A card that a program offers.
#[must_use]
pub fn offers(name: &str, title: &str) -> String {
    either(
        format!("“{name}” offers a card to send: {title}"),
        format!("“{name}”提供了一张可发送的卡片：{title}"),
    )
}

/// A program's wish.
#[must_use]
pub fn asks(name: &str, what: Power) -> String {
    let what = power(what);
    either(format!("“{name}” wants to {what}."), format!("“{name}”想要{what}。"))
}
