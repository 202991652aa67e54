//! What the window says about photos.

use crate::strings::{either, words};

words! {
    photo = "Photo", "照片";
    add = "Photo", "照片";
    add_how = "Choose a file, or drop pictures into the window, or paste one", "选择文件，或把图片拖进窗口、粘贴图片";
    choose = "Choose files…", "选择文件…";
    choosing = "Waiting for the file dialog…", "正在等待文件对话框…";
    path = "Path of a picture", "图片路径";
    path_add = "Add", "添加";
    drop_here = "Drop pictures here to send them", "把图片拖到这里发送";
    preparing = "Preparing…", "正在准备…";
    remove = "Remove", "移除";
    too_many = "A message has at most nine photos.", "一条消息最多九张照片。";
    too_long = "A text that goes with photos has at most 16 KiB.", "配照片的文字最多16 KiB。";
    full = "Photo in full size", "原图";
    preview = "Preview", "预览";
    waiting = "Photo: waiting for its preview", "照片：等待预览";
    broken = "Photo: its preview can't be shown", "照片：无法显示预览";
    asking = "Looking for a device that has it…", "正在寻找有这张照片的设备…";
    away = "Not reachable now. It comes from its author's devices, or from others who have looked at it; none of them gave it.", "暂时无法获取。照片来自作者的设备或看过它的人的设备，目前都没能提供。";
    retry = "Try again", "重试";
    close = "Close", "关闭";
    previous = "Previous", "上一张";
    next = "Next", "下一张";
}

/// So many bytes.
#[must_use]
pub fn size(bytes: u64) -> String {
    match bytes {
        0..1_000 => format!("{bytes} B"),
        1_000..1_000_000 => format!("{} kB", bytes / 1_000),
        _ => format!("{}.{} MB", bytes / 1_000_000, bytes / 100_000 % 10),
    }
}

/// Which of several photos, how large it is, and how many bytes.
#[must_use]
pub fn described(number: usize, of: usize, (width, height): (u16, u16), bytes: u64) -> String {
    let size = size(bytes);
    let word = photo();
    match of {
        1 => format!("{word}, {width}×{height}, {size}"),
        of => either(
            format!("{word} {number} of {of}, {width}×{height}, {size}"),
            format!("{word} {number}/{of}, {width}×{height}, {size}"),
        ),
    }
}

/// So many bytes of so many are here.
#[must_use]
pub fn coming(have: u64, all: u64) -> String {
    let (have, all) = (size(have), size(all));
    either(format!("Fetching: {have} of {all}"), format!("正在获取：{have} / {all}"))
}

/// Takes a picture off what is being written.
#[must_use]
pub fn remove_one(name: &str) -> String {
    either(format!("Remove {name}"), format!("移除{name}"))
}

#[cfg(test)]
mod tests {
    use super::size;

    #[test]
    fn sizes_are_told_in_thousands() {
        assert_eq!(size(999), "999 B");
        assert_eq!(size(312_400), "312 kB");
        assert_eq!(size(1_960_000), "1.9 MB");
    }
}
