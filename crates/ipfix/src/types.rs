//! Abstract data types, semantics and units of information elements (RFC 7012 §3), with the numbers
//! that RFC 5610 gives them.

/// Makes an enumeration of registered numbers.
macro_rules! registry {
    ($(#[$doc:meta])* $name:ident: $number:ty { $($(#[$item_doc:meta])* $item:ident = $value:literal $text:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name {
            $($(#[$item_doc])* $item,)*
        }

        impl $name {
            /// All of them, in the order of their numbers.
            pub const ALL: &'static [Self] = &[$(Self::$item,)*];

            /// The registered number.
            pub const fn number(self) -> $number {
                match self {
                    $(Self::$item => $value,)*
                }
            }

            /// What has this number.
            pub const fn from_number(number: $number) -> Option<Self> {
                match number {
                    $($value => Some(Self::$item),)*
                    _ => None,
                }
            }

            /// The registered name.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$item => $text,)*
                }
            }
        }
    };
}

registry! {
    /// Abstract data type of an element (RFC 7012 §3.1, RFC 5610 §3.1).
    DataType: u8 {
        /// A string of octets.
        OctetArray = 0 "octetArray",
        /// A number from 0 to 2^8 - 1.
        Unsigned8 = 1 "unsigned8",
        /// A number from 0 to 2^16 - 1.
        Unsigned16 = 2 "unsigned16",
        /// A number from 0 to 2^32 - 1.
        Unsigned32 = 3 "unsigned32",
        /// A number from 0 to 2^64 - 1.
        Unsigned64 = 4 "unsigned64",
        /// A number from -2^7 to 2^7 - 1.
        Signed8 = 5 "signed8",
        /// A number from -2^15 to 2^15 - 1.
        Signed16 = 6 "signed16",
        /// A number from -2^31 to 2^31 - 1.
        Signed32 = 7 "signed32",
        /// A number from -2^63 to 2^63 - 1.
        Signed64 = 8 "signed64",
        /// An IEEE single-precision number.
        Float32 = 9 "float32",
        /// An IEEE double-precision number.
        Float64 = 10 "float64",
        /// True or false; 1 or 2 on the wire.
        Boolean = 11 "boolean",
        /// Six octets of a MAC address.
        MacAddress = 12 "macAddress",
        /// A string of UTF-8.
        String = 13 "string",
        /// Seconds since 1970.
        DateTimeSeconds = 14 "dateTimeSeconds",
        /// Milliseconds since 1970.
        DateTimeMilliseconds = 15 "dateTimeMilliseconds",
        /// A time in NTP's format, to the microsecond.
        DateTimeMicroseconds = 16 "dateTimeMicroseconds",
        /// A time in NTP's format, to the nanosecond.
        DateTimeNanoseconds = 17 "dateTimeNanoseconds",
        /// An IPv4 address.
        Ipv4Address = 18 "ipv4Address",
        /// An IPv6 address.
        Ipv6Address = 19 "ipv6Address",
        /// A list of values of one element (RFC 6313).
        BasicList = 20 "basicList",
        /// A list of records of one template (RFC 6313).
        SubTemplateList = 21 "subTemplateList",
        /// A list of records of several templates (RFC 6313).
        SubTemplateMultiList = 22 "subTemplateMultiList",
    }
}

impl DataType {
    /// Length in bytes on the wire, the greatest where a value may be shortened; `None` where it
    /// varies.
    pub const fn wire_len(self) -> Option<u16> {
        match self {
            Self::Unsigned8 | Self::Signed8 | Self::Boolean => Some(1),
            Self::Unsigned16 | Self::Signed16 => Some(2),
            Self::Unsigned32
            | Self::Signed32
            | Self::Float32
            | Self::DateTimeSeconds
            | Self::Ipv4Address => Some(4),
            Self::MacAddress => Some(6),
            Self::Unsigned64
            | Self::Signed64
            | Self::Float64
            | Self::DateTimeMilliseconds
            | Self::DateTimeMicroseconds
            | Self::DateTimeNanoseconds => Some(8),
            Self::Ipv6Address => Some(16),
            Self::OctetArray
            | Self::String
            | Self::BasicList
            | Self::SubTemplateList
            | Self::SubTemplateMultiList => None,
        }
    }

    /// Whether a value may be sent in fewer octets, or with less precision (RFC 7011 §6.2).
    pub const fn may_be_reduced(self, len: u16) -> bool {
        match self {
            Self::Unsigned16 | Self::Signed16 => len >= 1 && len < 2,
            Self::Unsigned32 | Self::Signed32 => len >= 1 && len < 4,
            Self::Unsigned64 | Self::Signed64 => len >= 1 && len < 8,
            Self::Float64 => len == 4,
            Self::OctetArray
            | Self::Unsigned8
            | Self::Signed8
            | Self::Float32
            | Self::Boolean
            | Self::MacAddress
            | Self::String
            | Self::DateTimeSeconds
            | Self::DateTimeMilliseconds
            | Self::DateTimeMicroseconds
            | Self::DateTimeNanoseconds
            | Self::Ipv4Address
            | Self::Ipv6Address
            | Self::BasicList
            | Self::SubTemplateList
            | Self::SubTemplateMultiList => false,
        }
    }
}

registry! {
    /// What kind of quantity an element is (RFC 7012 §3.2, RFC 5610 §3.6).
    Semantics: u8 {
        /// None of the others.
        Default = 0 "default",
        /// A measured value.
        Quantity = 1 "quantity",
        /// A count since the exporter started.
        TotalCounter = 2 "totalCounter",
        /// A count since the previous record of the flow.
        DeltaCounter = 3 "deltaCounter",
        /// A number that is a name.
        Identifier = 4 "identifier",
        /// A set of bits.
        Flags = 5 "flags",
        /// A list.
        List = 6 "list",
        /// A counter of SNMP (RFC 8038).
        SnmpCounter = 7 "snmpCounter",
        /// A gauge of SNMP (RFC 8038).
        SnmpGauge = 8 "snmpGauge",
    }
}

registry! {
    /// Unit of an element (RFC 7012 §3.3, RFC 5610 §3.7).
    Unit: u16 {
        /// A number without unit, or no number.
        None = 0 "none",
        /// Bits.
        Bits = 1 "bits",
        /// Octets.
        Octets = 2 "octets",
        /// Packets.
        Packets = 3 "packets",
        /// Flows.
        Flows = 4 "flows",
        /// Seconds.
        Seconds = 5 "seconds",
        /// Milliseconds.
        Milliseconds = 6 "milliseconds",
        /// Microseconds.
        Microseconds = 7 "microseconds",
        /// Nanoseconds.
        Nanoseconds = 8 "nanoseconds",
        /// Words of four octets.
        FourOctetWords = 9 "4-octet words",
        /// Messages.
        Messages = 10 "messages",
        /// Hops.
        Hops = 11 "hops",
        /// Entries of a table.
        Entries = 12 "entries",
        /// Frames.
        Frames = 13 "frames",
        /// Ports.
        Ports = 14 "ports",
        /// As of the element that this one is about.
        Inferred = 15 "inferred",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_leads_back_to_its_name() {
        for (n, &kind) in DataType::ALL.iter().enumerate() {
            assert_eq!(usize::from(kind.number()), n);
            assert_eq!(DataType::from_number(kind.number()), Some(kind));
        }
        for (n, &semantics) in Semantics::ALL.iter().enumerate() {
            assert_eq!(usize::from(semantics.number()), n);
            assert_eq!(Semantics::from_number(semantics.number()), Some(semantics));
        }
        for (n, &unit) in Unit::ALL.iter().enumerate() {
            assert_eq!(usize::from(unit.number()), n);
            assert_eq!(Unit::from_number(unit.number()), Some(unit));
        }
        assert_eq!(DataType::from_number(23), None);
    }
}
