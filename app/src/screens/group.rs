//! A group's details: who is in it, what it is called, and what its admins may change.

use egui::{Label, RichText, Ui};
use teahouse_node::core::command::{Command, Groups};
use teahouse_node::core::view::ChatState;
use teahouse_node::protocols::membership::Role;

use crate::desk::{After, Desk, Go};
use crate::screens::dialogs::{Confirm, Dialog};
use crate::strings;
use crate::theme::{SMALL, space, tokens};
use crate::vm::{Conversation, MemberRow};
use crate::widgets::{area, danger, entered, field, hint, section, small};

/// What is being typed; `None` while it is as the group has it.
#[derive(Debug, Default)]
pub(crate) struct State {
    title: Option<String>,
    notice: Option<String>,
}

pub(crate) fn details(ui: &mut Ui, state: &mut State, group: &Conversation, desk: &mut Desk) {
    let topic = group.topic;
    let active = group.state == ChatState::Active;
    if active {
        section(ui, strings::group_title());
        let mut title = state.title.clone().unwrap_or_else(|| group.title.clone());
        let typed = field(ui, &mut title, strings::group_title(), strings::group_title_hint());
        if typed.changed() {
            state.title = Some(title.clone());
        }
        let differs = state.title.as_ref().is_some_and(|t| t.trim() != group.title);
        let ready = differs && !title.trim().is_empty();
        if ready && (ui.button(strings::group_rename()).clicked() || entered(ui, &typed)) {
            let rename = Groups::Rename { topic, title: title.trim().into() };
            desk.submit(Command::Groups(rename), After::Nothing);
            state.title = None;
        }

        section(ui, strings::group_notice());
        let mut notice = state.notice.clone().unwrap_or_else(|| group.notice.clone());
        if area(ui, &mut notice, strings::group_notice(), strings::group_notice_hint()).changed() {
            state.notice = Some(notice.clone());
        }
        let differs = state.notice.as_ref().is_some_and(|n| *n != group.notice);
        if differs && ui.button(strings::save()).clicked() {
            desk.submit(Command::Groups(Groups::Notice { topic, text: notice }), After::Nothing);
            state.notice = None;
        }
    } else if !group.notice.is_empty() {
        section(ui, strings::group_notice());
        hint(ui, &group.notice);
    }

    section(ui, strings::group_members());
    let admin = active && group.role >= Role::Admin;
    for member in &group.members {
        ui.horizontal(|ui| {
            ui.set_min_height(30.0);
            let t = tokens(ui);
            let name = if member.me { strings::you() } else { &member.name };
            ui.add(Label::new(RichText::new(name).color(t.text)).truncate());
            // Only owners give roles.
            if active && group.role == Role::Owner && !member.me {
                role_menu(ui, group, member, desk);
            } else if member.role > Role::Member {
                ui.label(RichText::new(role_word(member.role)).size(SMALL).color(t.weak));
            }
            // Who has the same role or a higher one can't be removed.
            if admin
                && !member.me
                && member.role < group.role
                && small(ui, strings::group_remove(), &member.name, t.text).clicked()
            {
                let account = member.account;
                desk.go(Go::Dialog(Dialog::Confirm(Confirm {
                    what: strings::group_remove(),
                    whom: member.name.clone(),
                    how: strings::group_remove_how(),
                    command: Command::Groups(Groups::Remove { topic, account }),
                    after: After::Nothing,
                })));
            }
        });
    }
    if !active {
        return;
    }
    ui.add_space(space::NORMAL);
    if admin && ui.button(strings::group_invite()).clicked() {
        desk.go(Go::Dialog(Dialog::invite(topic)));
    }
    // Nobody else is in it: there is nothing to leave.
    if group.members.len() < 2 {
        return;
    }
    let owners = group.members.iter().filter(|m| m.role == Role::Owner).count();
    if group.role == Role::Owner && owners == 1 {
        hint(ui, strings::group_last_owner());
    } else if danger(ui, strings::group_leave()).clicked() {
        desk.go(Go::Dialog(Dialog::Confirm(Confirm {
            what: strings::group_leave(),
            whom: group.title.clone(),
            how: strings::group_leave_how(),
            command: Command::Groups(Groups::Leave { topic }),
            after: After::Nothing,
        })));
    }
}

/// The menu of roles that an owner gives a member.
fn role_menu(ui: &mut Ui, group: &Conversation, member: &MemberRow, desk: &mut Desk) {
    let words = RichText::new(role_word(member.role)).size(SMALL);
    ui.spacing_mut().button_padding = egui::vec2(8.0, 2.0);
    ui.spacing_mut().interact_size.y = 22.0;
    let menu = ui.menu_button(words, |ui| {
        for role in [Role::Member, Role::Admin, Role::Owner] {
            if ui.selectable_label(member.role == role, role_word(role)).clicked() {
                if member.role != role {
                    let account = member.account;
                    let give = Groups::SetRole { topic: group.topic, account, role };
                    desk.submit(Command::Groups(give), After::Nothing);
                }
                ui.close();
            }
        }
    });
    menu.response.accessible_name(strings::doing(strings::group_role(), &member.name));
}

const fn role_word(role: Role) -> &'static str {
    match role {
        Role::Owner => strings::role_owner(),
        Role::Admin => strings::role_admin(),
        Role::Member => strings::role_member(),
    }
}
