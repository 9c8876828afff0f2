//! `plugin!`, which makes of one declaration the argument parser, the manual entry, the register entry and the
//! dispatch of hooks to methods; and the macros that log.

/// Declares a plugin.
///
/// ```
/// # use qpsmtpd::plugin::*;
/// plugin! {
///     /// Detects mail loops by counting Received and Delivered-To fields.
///     "loop", Loop {
///         /// How many hops to allow.
///         @1 max_hops: u32 = 100,
///     }
///     hooks [data_post]
/// }
/// # impl Loop {
/// #     fn data_post(&self, _: &mut Session) -> Answer {
/// #         declined()
/// #     }
/// # }
/// ```
///
/// makes `struct Loop { max_hops: u32 }`, reads `loop 100` and `loop max_hops 100` from config/plugins, and calls the
/// method `data_post` of `Loop`. A hook that is named and not written does not compile; a method that is written and
/// not named is reported by the compiler as never used.
///
/// Optional parts, in this order: `files ["badhelo"]` names the configuration files it reads; `state { cache:
/// Cached<Rules> }` adds fields that start as their `Default`; `hooks [...]`; `with [setup, start, owned_dirs,
/// logs_up_to, needs, takes, tls_plan, offers, is_proxy]` names further methods: `fn setup(&mut self, at: &mut Loading) -> Result<(), String>` runs once
/// after the arguments, `fn start(&self) -> Result<(), String>` before the daemon serves (not at a check), `fn
/// owned_dirs(&self) -> Vec<PathBuf>` names directories to be made for the daemon's user, `fn logs_up_to(&self) ->
/// Level` bounds what a logging plugin takes, `fn needs(&self) -> Needs` names what it uses of the machine, `fn
/// takes(&self) -> Extensions` says which extensions a plugin that queues can keep, `fn tls_plan(&self)
/// -> Option<&TlsPlan>` says how TLS is to be offered, `fn offers(&self, s: &Session, mechanism: &str) -> bool` which
/// mechanisms of AUTH, `fn is_proxy(&self, peer: IpAddr) -> bool` from whom connections begin with a PROXY header.
#[macro_export]
macro_rules! plugin {
    (
        $(#[doc = $about:literal])*
        $name:literal, $type:ident {
            $($(#[doc = $help:literal])* $(@ $place:tt)? $field:ident : $kind:ty $(= $default:expr)?),* $(,)?
        }
        $(files [$($file:literal),* $(,)?])?
        $(state { $($held:ident : $holds:ty),* $(,)? })?
        hooks [$($hook:ident),* $(,)?]
        $(with [$($extra:ident),* $(,)?])?
    ) => {
        $(#[doc = $about])*
        pub struct $type {
            $($(#[doc = $help])* $field: $kind,)*
            $($($held: $holds,)*)?
        }

        #[doc = concat!("The declaration of plugin ", $name, ".")]
        pub static DECLARATION: $crate::plugin::Declaration = $crate::plugin::Declaration {
            name: $name,
            about: concat!($($about, "\n"),*),
            args: &[$($crate::plugin::ArgSpec {
                name: stringify!($field),
                place: $crate::plugin!(@first $(stringify!($place))?),
                wants: <$kind as $crate::plugin::Arg>::WANTS,
                also: <$kind as $crate::plugin::Arg>::ALSO,
                default: $crate::plugin!(@shown $kind $(, $default)?),
                required: || {
                    let default: Option<$kind> = $crate::plugin!(@default $kind $(, $default)?);
                    default.is_none()
                },
                help: concat!($($help),*),
            }),*],
            hooks: &[$($crate::plugin::Hook::$hook),*],
            files: &[$($($file),*)?],
            load: |at| {
                $(let mut $field: Option<$kind> = None;)*
                at.read(DECLARATION.args, &mut |field, name, word| {
                    $(if field == stringify!($field) {
                        return <$kind as $crate::plugin::Arg>::set(&mut $field, name, word);
                    })*
                    let _ = (name, word);
                    Err(format!("unknown argument '{field}'"))
                });
                $(
                    let default: Option<$kind> = $crate::plugin!(@default $kind $(, $default)?);
                    let $field = match ($field, default) {
                        (Some(given), Some(default)) => Some(<$kind as $crate::plugin::Arg>::complete(given, default)),
                        (given, default) => given.or(default),
                    };
                    if $field.is_none() {
                        at.fault(concat!("argument '", stringify!($field), "' is missing"));
                    }
                )*
                if at.failed() {
                    return None;
                }
                #[allow(unused_mut)] // only plugins with a setup change it
                let mut plugin = $type {
                    $($field: $field?,)*
                    $($($held: Default::default(),)*)?
                };
                $($($crate::plugin!(@setup $extra plugin at);)*)?
                Some(Box::new(plugin))
            },
        };

        impl $crate::plugin::Plugin for $type {
            fn on(&self, event: &$crate::plugin::Event<'_>, s: &mut $crate::plugin::Session) -> $crate::plugin::Answer {
                let _ = (event, &s);
                $($crate::plugin!(@on $hook self event s);)*
                $crate::plugin::declined()
            }
            fn aside(&self, aside: &$crate::plugin::Aside<'_>) -> $crate::plugin::Told {
                let _ = aside;
                $($crate::plugin!(@aside $hook self aside);)*
                Ok(None)
            }
            $($($crate::plugin!(@method $extra);)*)?
        }
    };

    (@first) => { None };
    (@first $text:expr) => { Some($text) };
    (@shown $kind:ty) => {
        Some(|| <$kind as $crate::plugin::Arg>::absent().map_or_else(String::new, |absent| absent.show()))
    };
    (@shown $kind:ty, $default:expr) => { Some(|| <$kind as $crate::plugin::Arg>::show(&$default)) };
    (@default $kind:ty) => { <$kind as $crate::plugin::Arg>::absent() };
    (@default $kind:ty, $default:expr) => { Some($default) };

    (@setup setup $plugin:ident $at:ident) => {
        if let Err(why) = $plugin.setup($at) {
            $at.fault(why);
            return None;
        }
    };
    (@setup $other:ident $plugin:ident $at:ident) => {};

    (@method setup) => {};
    (@method start) => {
        fn start(&self) -> Result<(), String> { Self::start(self) }
    };
    (@method needs) => {
        fn needs(&self) -> $crate::plugin::Needs { Self::needs(self) }
    };
    (@method takes) => {
        fn takes(&self) -> $crate::plugin::Extensions { Self::takes(self) }
    };
    (@method owned_dirs) => {
        fn owned_dirs(&self) -> Vec<std::path::PathBuf> { Self::owned_dirs(self) }
    };
    (@method tls_plan) => {
        fn tls_plan(&self) -> Option<&$crate::plugin::TlsPlan> { Self::tls_plan(self) }
    };
    (@method offers) => {
        fn offers(&self, s: &$crate::plugin::Session, mechanism: &str) -> bool { Self::offers(self, s, mechanism) }
    };
    (@method is_proxy) => {
        fn is_proxy(&self, peer: std::net::IpAddr) -> bool { Self::is_proxy(self, peer) }
    };
    (@method logs_up_to) => {
        fn logs_up_to(&self) -> $crate::plugin::Level { Self::logs_up_to(self) }
    };

    (@aside config $me:ident $a:ident) => {
        if let $crate::plugin::Aside::Config { name } = $a { return $me.config(name); }
    };
    (@aside user_config $me:ident $a:ident) => {
        if let $crate::plugin::Aside::UserConfig { who, name } = $a { return $me.user_config(who, name); }
    };
    (@aside logging $me:ident $a:ident) => {
        if let $crate::plugin::Aside::Logging { record } = $a { $me.logging(record); return Ok(None); }
    };
    (@aside $other:ident $me:ident $a:ident) => {};

    (@on config $me:ident $e:ident $s:ident) => {};
    (@on user_config $me:ident $e:ident $s:ident) => {};
    (@on logging $me:ident $e:ident $s:ident) => {};
    (@on pre_connection $me:ident $e:ident $s:ident) => { $crate::plugin!(@plain PreConnection pre_connection $me $e $s) };
    (@on connect $me:ident $e:ident $s:ident) => { $crate::plugin!(@plain Connect connect $me $e $s) };
    (@on data $me:ident $e:ident $s:ident) => { $crate::plugin!(@plain Data data $me $e $s) };
    (@on data_headers_end $me:ident $e:ident $s:ident) => { $crate::plugin!(@plain DataHeadersEnd data_headers_end $me $e $s) };
    (@on data_post_headers $me:ident $e:ident $s:ident) => { $crate::plugin!(@plain DataPostHeaders data_post_headers $me $e $s) };
    (@on data_post $me:ident $e:ident $s:ident) => { $crate::plugin!(@plain DataPost data_post $me $e $s) };
    (@on queue_pre $me:ident $e:ident $s:ident) => { $crate::plugin!(@plain QueuePre queue_pre $me $e $s) };
    (@on queue $me:ident $e:ident $s:ident) => { $crate::plugin!(@plain Queue queue $me $e $s) };
    (@on quit $me:ident $e:ident $s:ident) => { $crate::plugin!(@plain Quit quit $me $e $s) };
    (@on post_fork $me:ident $e:ident $s:ident) => { $crate::plugin!(@watch PostFork post_fork $me $e $s) };
    (@on queue_post $me:ident $e:ident $s:ident) => { $crate::plugin!(@watch QueuePost queue_post $me $e $s) };
    (@on reset_transaction $me:ident $e:ident $s:ident) => { $crate::plugin!(@watch ResetTransaction reset_transaction $me $e $s) };
    (@on disconnect $me:ident $e:ident $s:ident) => { $crate::plugin!(@watch Disconnect disconnect $me $e $s) };
    (@on post_connection $me:ident $e:ident $s:ident) => { $crate::plugin!(@watch PostConnection post_connection $me $e $s) };
    (@on ehlo_parse $me:ident $e:ident $s:ident) => { $crate::plugin!(@one EhloParse line ehlo_parse $me $e $s) };
    (@on ehlo $me:ident $e:ident $s:ident) => { $crate::plugin!(@one Ehlo host ehlo $me $e $s) };
    (@on helo_parse $me:ident $e:ident $s:ident) => { $crate::plugin!(@one HeloParse line helo_parse $me $e $s) };
    (@on helo $me:ident $e:ident $s:ident) => { $crate::plugin!(@one Helo host helo $me $e $s) };
    (@on auth_parse $me:ident $e:ident $s:ident) => { $crate::plugin!(@one AuthParse line auth_parse $me $e $s) };
    (@on auth $me:ident $e:ident $s:ident) => { $crate::plugin!(@one Auth with auth $me $e $s) };
    (@on auth_plain $me:ident $e:ident $s:ident) => { $crate::plugin!(@one AuthPlain with auth_plain $me $e $s) };
    (@on auth_login $me:ident $e:ident $s:ident) => { $crate::plugin!(@one AuthLogin with auth_login $me $e $s) };
    (@on auth_cram_md5 $me:ident $e:ident $s:ident) => { $crate::plugin!(@one AuthCramMd5 with auth_cram_md5 $me $e $s) };
    (@on auth_scram $me:ident $e:ident $s:ident) => { $crate::plugin!(@one AuthScram with auth_scram $me $e $s) };
    (@on auth_token $me:ident $e:ident $s:ident) => { $crate::plugin!(@one AuthToken with auth_token $me $e $s) };
    (@on auth_external $me:ident $e:ident $s:ident) => { $crate::plugin!(@one AuthExternal with auth_external $me $e $s) };
    (@on mail_parse $me:ident $e:ident $s:ident) => { $crate::plugin!(@one MailParse line mail_parse $me $e $s) };
    (@on rcpt_parse $me:ident $e:ident $s:ident) => { $crate::plugin!(@one RcptParse line rcpt_parse $me $e $s) };
    (@on received_line $me:ident $e:ident $s:ident) => { $crate::plugin!(@one ReceivedLine trace received_line $me $e $s) };
    (@on vrfy $me:ident $e:ident $s:ident) => { $crate::plugin!(@one Vrfy what vrfy $me $e $s) };
    (@on noop $me:ident $e:ident $s:ident) => { $crate::plugin!(@one Noop rest noop $me $e $s) };
    (@on help $me:ident $e:ident $s:ident) => { $crate::plugin!(@one Help topic help $me $e $s) };
    (@on mail_pre $me:ident $e:ident $s:ident) => { $crate::plugin!(@two MailPre address params mail_pre $me $e $s) };
    (@on mail $me:ident $e:ident $s:ident) => { $crate::plugin!(@two Mail sender params mail $me $e $s) };
    (@on rcpt_pre $me:ident $e:ident $s:ident) => { $crate::plugin!(@two RcptPre address params rcpt_pre $me $e $s) };
    (@on rcpt $me:ident $e:ident $s:ident) => { $crate::plugin!(@two Rcpt recipient params rcpt $me $e $s) };
    (@on unrecognized_command $me:ident $e:ident $s:ident) => {
        $crate::plugin!(@two UnrecognizedCommand verb rest unrecognized_command $me $e $s)
    };
    (@on deny $me:ident $e:ident $s:ident) => {
        if let $crate::plugin::Event::Deny { plugin, verdict, text } = *$e { $me.deny($s, plugin, verdict, text); return $crate::plugin::declined(); }
    };
    (@on ok $me:ident $e:ident $s:ident) => {
        if let $crate::plugin::Event::Ok { plugin, verdict, text } = *$e { $me.ok($s, plugin, verdict, text); return $crate::plugin::declined(); }
    };

    (@plain $event:ident $hook:ident $me:ident $e:ident $s:ident) => {
        if let $crate::plugin::Event::$event = *$e { return $me.$hook($s); }
    };
    (@watch $event:ident $hook:ident $me:ident $e:ident $s:ident) => {
        if let $crate::plugin::Event::$event = *$e { $me.$hook($s); return $crate::plugin::declined(); }
    };
    (@one $event:ident $a:ident $hook:ident $me:ident $e:ident $s:ident) => {
        if let $crate::plugin::Event::$event { $a } = *$e { return $me.$hook($s, $a); }
    };
    (@two $event:ident $a:ident $b:ident $hook:ident $me:ident $e:ident $s:ident) => {
        if let $crate::plugin::Event::$event { $a, $b } = *$e { return $me.$hook($s, $a, $b); }
    };
}

/// Logs at LOGERROR in the name of the plugin that runs.
#[macro_export]
macro_rules! error { ($s:expr, $($words:tt)+) => { $s.log($crate::log::Level::Error, format_args!($($words)+)) }; }
/// Logs at LOGWARN in the name of the plugin that runs.
#[macro_export]
macro_rules! warning { ($s:expr, $($words:tt)+) => { $s.log($crate::log::Level::Warn, format_args!($($words)+)) }; }
/// Logs at LOGNOTICE in the name of the plugin that runs.
#[macro_export]
macro_rules! notice { ($s:expr, $($words:tt)+) => { $s.log($crate::log::Level::Notice, format_args!($($words)+)) }; }
/// Logs at LOGINFO in the name of the plugin that runs.
#[macro_export]
macro_rules! info { ($s:expr, $($words:tt)+) => { $s.log($crate::log::Level::Info, format_args!($($words)+)) }; }
/// Logs at LOGDEBUG in the name of the plugin that runs.
#[macro_export]
macro_rules! debug { ($s:expr, $($words:tt)+) => { $s.log($crate::log::Level::Debug, format_args!($($words)+)) }; }
