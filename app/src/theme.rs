//! Colours, spaces and fonts. Nothing else in the app names a colour.

use std::sync::Arc;

use egui::{
    Color32, Context, CornerRadius, FontData, FontDefinitions, FontFamily, FontId, Margin, Stroke,
    TextStyle, Theme, Ui, Visuals, epaint::text::FallbackRequest, epaint::text::FontInsert, vec2,
};

/// The colours of one theme.
#[derive(Debug)]
pub struct Tokens {
    /// Behind the rail.
    pub rail: Color32,
    /// On the rail.
    pub on_rail: Color32,
    /// The chosen place on the rail.
    pub rail_chosen: Color32,
    /// Behind lists.
    pub list: Color32,
    /// Behind conversations and pages.
    pub page: Color32,
    /// Behind one's own messages.
    pub mine: Color32,
    /// Behind others' messages, fields and cards.
    pub theirs: Color32,
    /// Text.
    pub text: Color32,
    /// Text that matters less.
    pub weak: Color32,
    /// What can be done; what is chosen.
    pub accent: Color32,
    /// On `accent`.
    pub on_accent: Color32,
    /// The chosen row.
    pub chosen: Color32,
    /// The row under the pointer.
    pub hover: Color32,
    /// Plain buttons.
    pub button: Color32,
    /// Lines between things.
    pub line: Color32,
    /// What can't be undone; what failed.
    pub danger: Color32,
    /// On `danger`.
    pub on_danger: Color32,
    /// Behind warnings.
    pub alarm: Color32,
}

const fn rgb(hex: u32) -> Color32 {
    Color32::from_rgb((hex >> 16) as u8, (hex >> 8) as u8, hex as u8)
}

static LIGHT: Tokens = Tokens {
    rail: rgb(0x26_352F),
    on_rail: rgb(0xC4_D2CA),
    rail_chosen: rgb(0x3B_5247),
    list: rgb(0xFB_FAF6),
    page: rgb(0xF2_F0EA),
    mine: rgb(0xD3_EBDC),
    theirs: rgb(0xFF_FFFF),
    text: rgb(0x1D_2320),
    weak: rgb(0x66_6F69),
    accent: rgb(0x2B_7A57),
    on_accent: rgb(0xFF_FFFF),
    chosen: rgb(0xDF_ECE4),
    hover: rgb(0xF0_EEE7),
    button: rgb(0xE9_E6DD),
    line: rgb(0xE0_DDD3),
    danger: rgb(0xB2_382C),
    on_danger: rgb(0xFF_FFFF),
    alarm: rgb(0xFC_E9C4),
};

static DARK: Tokens = Tokens {
    rail: rgb(0x12_1715),
    on_rail: rgb(0xA9_B8B0),
    rail_chosen: rgb(0x26_332D),
    list: rgb(0x1A_1F1D),
    page: rgb(0x20_2624),
    mine: rgb(0x2A_5441),
    theirs: rgb(0x2D_3532),
    text: rgb(0xE6_EBE8),
    weak: rgb(0x9B_A69F),
    accent: rgb(0x62_B98F),
    on_accent: rgb(0x0C_1A13),
    chosen: rgb(0x2A_3A32),
    hover: rgb(0x24_2B28),
    button: rgb(0x35_3E3A),
    line: rgb(0x33_3B37),
    danger: rgb(0xEB_7F72),
    on_danger: rgb(0x2A_0F0B),
    alarm: rgb(0x4D_3B14),
};

/// Behind avatars; white letters are legible on each.
static PEOPLE: [Color32; 8] = [
    rgb(0x2B_7A57),
    rgb(0x3A_6EA5),
    rgb(0x8A_5A9E),
    rgb(0xB0_5C3B),
    rgb(0x9C_4668),
    rgb(0x5B_7330),
    rgb(0x2F_7C86),
    rgb(0x7A_6448),
];

/// Spaces, in points.
pub mod space {
    /// Between things that belong together.
    pub const SMALL: f32 = 4.0;
    /// Between things.
    pub const NORMAL: f32 = 8.0;
    /// Around things.
    pub const LARGE: f32 = 16.0;
    /// The rail's width.
    pub const RAIL: f32 = 72.0;
    /// A list's usual width.
    pub const LIST: f32 = 288.0;
    /// A list row's height.
    pub const ROW: f32 = 62.0;
    /// The width of text that is read.
    pub const COLUMN: f32 = 460.0;
    /// The width of a feed: text with pictures.
    pub const FEED: f32 = 600.0;
    /// Between a feed's rows.
    pub const GAP: f32 = 12.0;
}

/// Small text, for times and the like.
pub const SMALL: f32 = 12.0;

/// The colours now in use.
pub fn tokens(ui: &Ui) -> &'static Tokens {
    if ui.visuals().dark_mode { &DARK } else { &LIGHT }
}

/// The colour of a person or group, by id.
pub fn person(id: &[u8; 32]) -> Color32 {
    PEOPLE[usize::from(id[0]) % PEOPLE.len()]
}

/// White, for what is drawn on [`person`]'s colours.
pub const ON_PERSON: Color32 = Color32::WHITE;
/// A QR code's dark modules, in every theme: scanners want it so.
pub const QR_DARK: Color32 = Color32::BLACK;
/// A QR code's ground.
pub const QR_LIGHT: Color32 = Color32::WHITE;

/// Sets fonts and both themes; which one is used follows the system.
pub fn install(ctx: &Context) {
    install_fonts(ctx);
    ctx.set_theme(egui::ThemePreference::System);
    for (theme, t) in [(Theme::Light, &LIGHT), (Theme::Dark, &DARK)] {
        ctx.set_visuals_of(theme, visuals(theme, t));
    }
    ctx.all_styles_mut(|style| {
        let sizes = [
            (TextStyle::Small, SMALL),
            (TextStyle::Body, 15.0),
            (TextStyle::Button, 15.0),
            (TextStyle::Heading, 21.0),
        ];
        for (text, size) in sizes {
            style.text_styles.insert(text, FontId::proportional(size));
        }
        style.text_styles.insert(TextStyle::Monospace, FontId::monospace(14.0));
        style.spacing.item_spacing = vec2(space::NORMAL, space::NORMAL);
        style.spacing.button_padding = vec2(12.0, 6.0);
        style.spacing.interact_size.y = 30.0;
        style.spacing.menu_margin = Margin::same(6);
        style.spacing.window_margin = Margin::same(16);
        // A list that grows under its reader would be taken for one pulled past its end.
        style.spacing.scroll.kinetic.rubber_band = false;
        style.interaction.selectable_labels = false;
        style.url_in_tooltip = false;
    });
}

fn visuals(theme: Theme, t: &Tokens) -> Visuals {
    let mut v = match theme {
        Theme::Light => Visuals::light(),
        Theme::Dark => Visuals::dark(),
    };
    v.override_text_color = None;
    v.weak_text_color = Some(t.weak);
    v.panel_fill = t.page;
    v.window_fill = t.list;
    v.window_stroke = Stroke::new(1.0, t.line);
    v.window_corner_radius = CornerRadius::same(12);
    v.menu_corner_radius = CornerRadius::same(8);
    v.extreme_bg_color = t.theirs;
    v.text_edit_bg_color = Some(t.theirs);
    v.faint_bg_color = t.hover;
    v.hyperlink_color = t.accent;
    v.warn_fg_color = t.danger;
    v.error_fg_color = t.danger;
    v.selection.bg_fill = t.accent.gamma_multiply(0.35);
    v.selection.stroke = Stroke::new(1.5, t.accent);
    let corner = CornerRadius::same(8);
    let w = &mut v.widgets;
    for (state, fill, edge) in [
        (&mut w.noninteractive, t.list, t.line),
        (&mut w.inactive, t.button, t.line),
        (&mut w.hovered, t.chosen, t.weak),
        (&mut w.active, t.chosen, t.accent),
        (&mut w.open, t.chosen, t.line),
    ] {
        state.bg_fill = fill;
        state.weak_bg_fill = fill;
        state.bg_stroke = Stroke::new(1.0, edge);
        state.fg_stroke = Stroke::new(1.0, t.text);
        state.corner_radius = corner;
        state.expansion = 0.0;
    }
    v
}

const CHINESE: &str = "Noto Sans SC";
/// What egui calls its monochrome emoji fonts, where they are compiled in.
const EMOJI: [&str; 2] = ["NotoEmoji-Regular", "emoji-icon-font"];

/// egui's fonts first, then our Chinese one, then the system's, and as the last resort for
/// emoji the monochrome ones that come with egui: a system's coloured emoji are nicer.
fn install_fonts(ctx: &Context) {
    let mut fonts = FontDefinitions::default();
    let chinese = FontData::from_static(include_bytes!("../assets/NotoSansSC-GB2312.ttf"));
    fonts.font_data.insert(CHINESE.into(), Arc::new(chinese));
    for family in [FontFamily::Proportional, FontFamily::Monospace] {
        let chain = fonts.families.entry(family).or_default();
        chain.retain(|name| !EMOJI.contains(&name.as_str()));
        chain.push(CHINESE.into());
    }
    let emoji = EMOJI.map(|name| fonts.font_data.remove(name).map(|data| (name, data)));
    ctx.set_fonts(fonts);
    for (name, data) in emoji.into_iter().flatten() {
        ctx.add_font_provider(Arc::new(move |_: &FallbackRequest<'_>| {
            Some(FontInsert {
                name: name.into(),
                data: FontData::clone(&data),
                families: Vec::new(),
            })
        }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Relative luminance as WCAG 2 defines it.
    fn luminance(c: Color32) -> f32 {
        let linear = egui::Rgba::from(c);
        0.2126 * linear.r() + 0.7152 * linear.g() + 0.0722 * linear.b()
    }

    fn contrast(a: Color32, b: Color32) -> f32 {
        let (a, b) = (luminance(a), luminance(b));
        (a.max(b) + 0.05) / (a.min(b) + 0.05)
    }

    #[test]
    fn text_is_legible_on_every_ground() {
        for t in [&LIGHT, &DARK] {
            for ground in [t.list, t.page, t.mine, t.theirs, t.chosen, t.hover, t.alarm, t.button] {
                assert!(contrast(t.text, ground) >= 7.0, "{:?} on {ground:?}", t.text);
                assert!(contrast(t.weak, ground) >= 3.0, "{:?} on {ground:?}", t.weak);
            }
            for (fore, ground) in [
                (t.on_accent, t.accent),
                (t.on_danger, t.danger),
                (t.on_rail, t.rail),
                (t.on_rail, t.rail_chosen),
                (t.danger, t.list),
                (t.accent, t.list),
            ] {
                assert!(contrast(fore, ground) >= 4.5, "{fore:?} on {ground:?}");
            }
        }
        for colour in PEOPLE {
            assert!(contrast(ON_PERSON, colour) >= 4.5, "{colour:?}");
        }
    }
}
