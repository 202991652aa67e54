//! What the Moments page says.

use crate::strings::{either, words};

words! {
    title = "Moments", "朋友圈";

    // Writing
    write = "Share a moment", "发表动态";
    go_on = "Go on with your draft", "继续写草稿";
    text = "What do you want to share?", "这一刻的想法…";
    post = "Post", "发表";
    posting = "Posting…", "正在发表…";
    post_how = "Ctrl+Enter", "Ctrl+Enter";
    close = "Close", "收起";
    too_long = "too long", "超出长度";

    // To whom
    shown_to = "Shown to", "谁可以看";
    all = "All friends", "所有朋友";
    except = "All friends, except…", "不给谁看…";
    only = "Only some friends…", "部分可见…";
    nobody = "Only me", "仅自己可见";
    all_how = "Everybody who is your friend now, or becomes one later.", "现在的朋友，以及以后加的朋友。";
    except_how = "All friends but those whom you choose: nothing of it goes to them.", "除了所选朋友，其他朋友都能看；所选朋友什么也收不到。";
    only_how = "Those whom you choose, and nobody else.", "只有所选朋友能看。";
    nobody_how = "It stays on your own devices.", "只留在你自己的设备上。";
    audience_title = "Who may see it?", "谁可以看？";
    audience_done = "Done", "完成";
    search = "Search friends", "搜索朋友";
    none_found = "No friend by that name.", "没有这个名字的朋友。";
    choose_some = "Choose at least one friend.", "请至少选择一位朋友。";
    too_many = "A post names 512 people at most.", "一条动态最多指定512人。";

    // The timeline
    empty = "Nothing here yet", "还没有动态";
    empty_how = "What you and your friends share appears here, the newest first. Whoever you choose sees your posts, and nobody else can read them, relays neither.", "你和朋友的动态会出现在这里，最新的在最上面。只有你选择的人能看到你的动态，中继也读不到。";
    friendless_how = "Moments go to friends, and you have none here yet. Show somebody your card, or add theirs. What you write meanwhile is kept for yourself, and for friends who come later if you share it with all friends.", "朋友圈是给朋友看的，你还没有朋友。给别人看你的名片，或者添加对方。在那之前写的动态自己能看到；如果选“所有朋友”，以后的朋友也能看到。";
    show_card = "Show my card", "我的名片";
    add_friend = "Add a friend", "添加朋友";
    pending = "Waiting for its text.", "正在等待文字。";
    older = "Older posts", "更早的动态";
    loading_older = "Looking for older posts…", "正在查找更早的动态…";
    end = "That is everything here.", "没有更多了。";
    limit = "Older posts than these are kept, but not shown.", "更早的动态仍在，但不再显示。";
    more = "More", "全文";
    less = "Less", "收起";
    photo = "Photo", "照片";
    photo_waiting = "Photo: waiting for it", "照片：等待中";
    photo_broken = "Photo: can't be shown", "照片：无法显示";

    // Words on posts
    like = "Like", "赞";
    liked = "Liked", "已赞";
    comment = "Comment", "评论";
    comment_hint = "Write a comment", "写评论";
    comment_send = "Send", "发送";
    sending = "Sending…", "正在发送…";
    words_how = "A like or comment is seen by those who may see the post and are friends of whoever wrote it. Nobody else can read it.", "只有能看到这条动态、又是发言者朋友的人，才能看到赞和评论。";
    delete_post = "Delete post", "删除动态";
    delete_post_how = "Your friends' devices are asked to erase it. Who has read or copied it still knows it.", "会请求朋友的设备删除它。看过或复制过的人仍然知道。";
    delete_comment = "Delete comment", "删除评论";
    delete_comment_how = "The devices of those who can see it are asked to erase it. Who has read it still knows it.", "会请求能看到它的设备删除它。看过的人仍然知道。";
    you = "You", "我";
}

/// A button's accessible name: what it does, and to which post or comment.
#[must_use]
pub fn doing(what: &str, whose: &str) -> String {
    match whose {
        "" => what.into(),
        whose => either(format!("{what}: {whose}"), format!("{what}：{whose}")),
    }
}

/// Who liked it, for the ear.
#[must_use]
pub fn liked_by(names: &str) -> String {
    either(format!("Liked by {names}"), format!("{names}觉得很赞"))
}

/// Names in a row; `more` of them are left out.
#[must_use]
pub fn names(names: &[&str], more: usize) -> String {
    let list = names.join(either(", ", "，"));
    match more {
        0 => list,
        n => either(format!("{list} and {n} more"), format!("{list}等{}人", names.len() + n)),
    }
}

/// To all friends but these.
#[must_use]
pub fn except_names(names: &str) -> String {
    either(format!("All friends except {names}"), format!("不给{names}看"))
}

/// To nobody but these.
#[must_use]
pub fn only_names(names: &str) -> String {
    either(format!("Only {names}"), format!("仅{names}可见"))
}

/// The button to choose the audience, for the ear.
#[must_use]
pub fn shown_to_whom(audience: &str) -> String {
    either(format!("Shown to: {audience}"), format!("谁可以看：{audience}"))
}

/// Bytes left.
#[must_use]
pub fn left(bytes: usize) -> String {
    either(format!("{bytes} bytes left"), format!("还可写{bytes}字节"))
}

/// A comment that answers somebody's.
#[must_use]
pub fn replies(by: &str, to: &str) -> String {
    either(format!("{by} to {to}"), format!("{by}回复{to}"))
}

/// Whom a comment that is being written answers.
#[must_use]
pub fn reply_to(name: &str) -> String {
    either(format!("Reply to {name}"), format!("回复{name}"))
}

/// Comments that are folded away.
#[must_use]
pub fn earlier(n: usize) -> String {
    match n {
        1 => either("1 earlier comment".into(), "更早的1条评论".into()),
        n => either(format!("{n} earlier comments"), format!("更早的{n}条评论")),
    }
}

/// How many friends are chosen.
#[must_use]
pub fn chosen(n: usize) -> String {
    either(format!("{n} chosen"), format!("已选{n}人"))
}
