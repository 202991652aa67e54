//! A QR code, painted.

use egui::{Rect, Response, Role, Sense, Ui, WidgetInfo, vec2};

use crate::theme::{QR_DARK, QR_LIGHT};
use crate::vm::Qr;
use crate::widgets::float;

/// Modules of light around the code: scanners need them (ISO/IEC 18004).
const QUIET: usize = 4;

/// Paints the code into a square of at most `size` points.
pub(crate) fn show(ui: &mut Ui, qr: &Qr, size: f32, name: &str) -> Response {
    let size = size.min(ui.available_width());
    let modules = qr.side + 2 * QUIET;
    // A whole number of pixels a module, so that all edges are sharp.
    let pixels = ui.pixels_per_point();
    let module = ((size * pixels / float(modules)).floor().max(1.0)) / pixels;
    let side = module * float(modules);
    let (rect, response) = ui.allocate_exact_size(vec2(side, side), Sense::hover());
    response.widget_info(|| WidgetInfo::labeled(Role::Image, true, name));
    if !ui.is_rect_visible(rect) {
        return response;
    }
    let snap = |v: f32| (v * pixels).round() / pixels;
    let origin = egui::pos2(snap(rect.left()), snap(rect.top()));
    let painter = ui.painter();
    painter.rect_filled(Rect::from_min_size(origin, rect.size()), 6.0, QR_LIGHT);
    for (y, row) in qr.dark.chunks(qr.side).enumerate() {
        // Neighbours are painted as one bar: fewer shapes, and no seams between them.
        let mut x = 0;
        while x < row.len() {
            let run = row[x..].iter().take_while(|dark| **dark).count();
            if run > 0 {
                let min = vec2(float(x + QUIET), float(y + QUIET)) * module;
                let bar = Rect::from_min_size(origin + min, vec2(float(run) * module, module));
                painter.rect_filled(bar, 0.0, QR_DARK);
            }
            x += run.max(1);
        }
    }
    response
}
