//! What the Official Accounts page says.

use crate::strings::{either, words};

words! {
    title = "Accounts", "公众号";

    // The list
    follow = "Follow", "关注";
    follow_link = "Link of an account to follow", "要关注的公众号链接";
    follow_how = "There is no list of who follows. Whoever is asked for it (its publisher, or who gave you the link) sees that you do.", "没有关注者名单。但被请求的一方（发布者或给你链接的人）会知道你关注了。";
    new = "Open your own", "开设公众号";
    yours = "Yours", "我的";
    followed = "Followed", "已关注";
    empty = "Nothing followed yet", "还没有关注公众号";
    empty_how = "Paste a link that begins with teahouse:feed/ on the left, and press Follow. Or open an account of your own: whoever has its link can read what you publish.", "在左侧粘贴以 teahouse:feed/ 开头的链接，然后点“关注”。也可以开设自己的公众号，有链接的人都能阅读你发布的文章。";
    choose = "Choose an account.", "请选择一个公众号。";
    unnamed = "Unnamed account", "未命名公众号";
    coming = "An article is on its way", "文章正在路上";
    nothing_published = "Nothing published yet", "还没有发布文章";
    nothing_yet = "Nothing published yet, as far as is known here", "目前没有看到已发布的文章";
    nobody_met = "Nobody who has it was met yet", "还没遇到有它的人";
    service = "Answers who writes to them", "会回复来信";

    // A feed
    write = "Write an article", "写文章";
    go_on = "Go on with your draft", "继续写草稿";
    link = "Link and QR code", "链接和二维码";
    describe = "Change name or description", "修改名称或简介";
    unfollow = "Unfollow", "取消关注";
    unfollow_how = "Nothing new of it comes any more. Follow again by its link.", "之后不再收到新文章。可用链接重新关注。";
    older = "Older articles", "更早的文章";
    loading_older = "Looking for older articles…", "正在查找更早的文章…";
    end = "That is everything here.", "没有更多了。";
    limit = "Older articles than these are kept, but not shown.", "更早的文章仍在，但不再显示。";
    waits = "This article has not come yet.", "这篇文章还没有到。";
    waits_feed = "It comes as soon as somebody who has it is met: its publisher, or another follower who gave a link.", "遇到有它的人（发布者或给过链接的关注者）就会到达。";
    first_article = "Write the first article: whoever follows gets it.", "写第一篇文章吧，关注者会收到。";

    // An article
    back = "Back", "返回";
    taken_back = "This article is not here any more: its publisher took it back.", "文章已不在：发布者已撤回。";
    delete = "Take back", "撤回";
    delete_what = "Take this article back", "撤回这篇文章";
    delete_how = "Followers' devices are asked to erase it. Who has read or copied it still knows it.", "会请求关注者的设备删除它。看过或复制过的人仍然知道。";
    cut = "This article is too long to be shown whole: the rest is left out.", "文章过长，无法完整显示，其余部分已省略。";
    link_title = "A link in this article leads to", "文中链接指向";
    link_how = "Teahouse opens nothing by itself. Copy the address if you trust it.", "茶馆不会自动打开任何链接。信任该地址时可以复制它。";
    copy_address = "Copy address", "复制地址";
    close = "Close", "关闭";

    // Writing
    article_title = "Title", "标题";
    article_text = "Article, in Markdown", "正文（Markdown）";
    article_hint = "# A heading, *emphasis*, [a link](https://…), - a list. ![words](photo:0) is where the first photo stands.", "# 标题，*强调*，[链接](https://…)，- 列表。![说明](photo:0) 是第一张照片的位置。";
    publish = "Publish", "发布";
    publishing = "Publishing…", "正在发布…";
    preview = "Preview", "预览";
    go_on_writing = "Go on writing", "继续编辑";
    later = "Later", "稍后";
    too_long = "too long", "超出长度";
    public_how = "Published articles are public: whoever has the link can read them, and followers pass them on.", "文章是公开的：有链接的人都能阅读，关注者会互相传递。";

    // One's own
    new_title = "An account of your own", "自己的公众号";
    change_title = "Name and description", "名称和简介";
    name = "Name of the account", "公众号名称";
    about = "What it is about", "简介";
    is_service = "I answer who writes to me", "我会回复来信";
    create = "Open it", "开设";
    save = "Save", "保存";
    saving = "Saving…", "正在保存…";
    cancel = "Cancel", "取消";

    // The link
    link_show = "Make the link", "生成链接";
    link_making = "Making the link…", "正在生成链接…";
    link_serves = "Whoever has this link can follow. From now on your devices give the account's articles to whoever asks them.", "有此链接的人都可以关注。从现在起，你的设备会把文章提供给请求者。";
    link_qr = "QR code of the account's link", "公众号链接的二维码";
    link_copy = "Copy link", "复制链接";
    link_too_long = "This link is too long for a QR code. Send the link.", "链接太长，无法生成二维码，请发送链接。";
    copied = "Copied.", "已复制。";

    // Automatic replies
    replies = "Automatic reply", "自动回复";
    replies_title = "Automatic reply", "自动回复";
    replies_how = "Who writes to you in a chat, and hears nothing from you for a day, gets this once, from this device while it runs.", "有人在聊天中给你写信、而你一天没有回复时，本设备运行期间会自动发送一次。";
    replies_text = "Text of the automatic reply", "自动回复内容";
    replies_on = "Answer so", "启用";
    replies_off = "No longer", "停用";
    replies_are_on = "This device answers automatically.", "本设备正在自动回复。";
    replies_elsewhere = "Another device of yours answers automatically.", "你的另一台设备正在自动回复。";
    replies_are_off = "Nothing is answered automatically.", "没有启用自动回复。";
}

/// A button's accessible name: what it does, and to what.
#[must_use]
pub fn doing(what: &str, which: &str) -> String {
    either(format!("{what}: {which}"), format!("{what}：{which}"))
}

/// Bytes left.
#[must_use]
pub fn left(bytes: usize) -> String {
    either(format!("{bytes} bytes left"), format!("还可写{bytes}字节"))
}

/// Who publishes a feed.
#[must_use]
pub fn published_by(names: &str) -> String {
    either(format!("Published by {names}"), format!("发布者：{names}"))
}

/// The words of a photo that has none.
#[must_use]
pub fn photo(number: usize, words: &str) -> String {
    match words.trim() {
        "" => either(format!("Photo {number}"), format!("照片{number}")),
        words => either(format!("Photo {number}: {words}"), format!("照片{number}：{words}")),
    }
}
